package ai.glass;

import java.io.File;
import java.util.List;

/**
 * An open artifact and one conversation. A session serves one call at a time, from any thread: a
 * call that finds another one running throws {@link GlassException.Busy}. All calls block.
 */
public final class GlassSession extends NativeHandle {
  private GlassSession(long pointer) {
    super(pointer);
  }

  /**
   * Opens an artifact directory.
   *
   * @throws GlassException.BadArtifact it is missing, damaged, not for this build, or not signed
   *     as the options ask
   * @throws GlassException.OutOfMemory it does not seem to fit into memory
   */
  public static GlassSession open(File directory, OpenOptions options) {
    return new GlassSession(
        GlassNative.open(
            path(directory),
            options.threads,
            options.skipMemoryCheck,
            options.memoryLimit,
            Utf8.encode("trustedKeys", options.trustedKeys)));
  }

  /**
   * Compares every file of an artifact directory with its checksum; seconds a gigabyte.
   *
   * @param cancellation may be null
   * @throws GlassException.BadArtifact it is missing or damaged
   * @throws GlassException.Cancelled it was cancelled
   */
  public static void verify(File directory, Cancellation cancellation) {
    verify(directory, null, cancellation);
  }

  /**
   * The same of an artifact that a key must have signed.
   *
   * @param trustedKeys as {@link OpenOptions#trustedKeys}
   * @throws GlassException.BadArtifact it is missing or damaged, or none of the keys signed it
   */
  public static void verify(File directory, String trustedKeys, Cancellation cancellation) {
    byte[] keys = Utf8.encode("trustedKeys", trustedKeys);
    using(
        cancellation,
        flag -> {
          GlassNative.verify(path(directory), keys, flag);
          return null;
        });
  }

  public SessionInfo info() {
    return call(GlassNative::info);
  }

  /**
   * Answers a request; returns when the answer is complete. A cancelled answer is what there was
   * until then, see {@link Answer#finishReason}.
   *
   * @param cancellation may be null
   * @param listener takes the text while it is made; may be null
   */
  public Answer generate(Request request, Cancellation cancellation, TextListener listener) {
    return using(
        cancellation,
        flag ->
            call(
                session ->
                    GlassNative.generate(
                        session,
                        Utf8.encode("prompt", request.prompt),
                        Request.encodeMessages(request.messages),
                        Utf8.encode("profile", request.profile),
                        request.encodeSettings(),
                        request.maxNewTokens,
                        request.temperature,
                        request.topK,
                        request.topP,
                        request.minP,
                        request.repetitionPenalty,
                        request.seed != null,
                        request.seed != null ? request.seed : 0,
                        Utf8.encodeAll("stop", request.stop),
                        request.reset,
                        listener,
                        flag)));
  }

  /** The text that messages become by the artifact's chat template. */
  public String renderChat(List<Message> messages) {
    return Utf8.decode(
        call(session -> GlassNative.renderChat(session, Request.encodeMessages(messages))));
  }

  /** Forgets the conversation. */
  public void reset() {
    call(
        session -> {
          GlassNative.reset(session);
          return null;
        });
  }

  @Override
  void free(long pointer) {
    GlassNative.close(pointer);
  }

  private interface NativeCall<T> {
    T run(long pointer);
  }

  private <T> T call(NativeCall<T> body) {
    return using(this, body);
  }

  /** Runs a call with a handle's pointer, 0 for null, which stays valid until it returns. */
  private static <T> T using(NativeHandle handle, NativeCall<T> body) {
    if (handle == null) return body.run(0);
    long pointer = handle.acquire();
    try {
      return body.run(pointer);
    } finally {
      handle.release();
    }
  }

  private static byte[] path(File directory) {
    return Utf8.encode("directory", directory.getPath());
  }
}
