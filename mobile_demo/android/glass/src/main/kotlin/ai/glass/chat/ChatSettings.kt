package ai.glass.chat

import ai.glass.Message
import ai.glass.Request

/**
 * What the settings screen sets.
 *
 * @property density share of neurons that decode; null is the artifact's own, 1 is dense
 * @property refresh tokens between choices of neurons: a number, `auto` or `off`; null is the
 *     artifact's own
 * @property profile a profile of the artifact, or null
 * @property temperature 0 takes the most likely token
 * @property threads of the engine; 0 lets it decide
 */
data class ChatSettings(
    val density: Double? = null,
    val refresh: String? = null,
    val profile: String? = null,
    val temperature: Double = 0.0,
    val topK: Long = 0,
    val topP: Double = 1.0,
    val minP: Double = 0.0,
    val repetitionPenalty: Double = 1.0,
    val maxNewTokens: Long = 256,
    val threads: Long = 0,
) {
    /** A request that continues the conversation with these settings. */
    fun request(turns: List<Message>): Request = Request.chat(turns).also {
        it.profile = profile
        density?.let { value -> it.settings["density"] = value.toString() }
        refresh?.let { value -> it.settings["refresh"] = value }
        it.maxNewTokens = maxNewTokens
        it.temperature = temperature
        it.topK = topK
        it.topP = topP
        it.minP = minP
        it.repetitionPenalty = repetitionPenalty
    }

    /** As text that [decode] reads, to be kept while the app is not running. */
    fun encode(): List<String> = listOf(
        density?.toString().orEmpty(), refresh.orEmpty(), profile.orEmpty(), temperature.toString(),
        topK.toString(), topP.toString(), minP.toString(), repetitionPenalty.toString(),
        maxNewTokens.toString(), threads.toString(),
    )

    companion object {
        /** What [encode] wrote; the defaults when an older version of the app wrote it. */
        fun decode(fields: List<String>): ChatSettings = try {
            ChatSettings(
                density = fields[0].ifEmpty { null }?.toDouble(),
                refresh = fields[1].ifEmpty { null },
                profile = fields[2].ifEmpty { null },
                temperature = fields[3].toDouble(),
                topK = fields[4].toLong(),
                topP = fields[5].toDouble(),
                minP = fields[6].toDouble(),
                repetitionPenalty = fields[7].toDouble(),
                maxNewTokens = fields[8].toLong(),
                threads = fields[9].toLong(),
            )
        } catch (_: NumberFormatException) {
            ChatSettings()
        } catch (_: IndexOutOfBoundsException) {
            ChatSettings()
        }
    }
}
