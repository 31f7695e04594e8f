package ai.glass;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What to answer, and how. Either {@link #prompt} or {@link #messages} is given. */
public final class Request {
  /** Text to continue, or null. */
  public String prompt = null;

  /** The conversation so far; its answers among them. */
  public List<Message> messages = new ArrayList<>();

  /** One of the artifact's profiles, or null. */
  public String profile = null;

  /**
   * What replaces the artifact's own settings and the profile's: {@code density}, {@code refresh}
   * and the others that {@code glass_setting} names.
   */
  public Map<String, String> settings = new LinkedHashMap<>();

  public long maxNewTokens = 128;

  /** Divides the logits; 0 takes the most likely token. */
  public double temperature = 0;

  /** Keep the k most likely tokens; 0 keeps all. */
  public long topK = 0;

  /** Keep the fewest tokens whose probabilities reach p; 1 keeps all. */
  public double topP = 1;

  /** Keep tokens at least this share as likely as the first; 0 keeps all. */
  public double minP = 0;

  /** Above 1 makes tokens of the conversation less likely. */
  public double repetitionPenalty = 1;

  /** Null takes a fresh one each time. */
  public Long seed = null;

  /** Strings that end the answer. */
  public List<String> stop = new ArrayList<>();

  /** Forget the conversation first; otherwise what fits is reused. */
  public boolean reset = false;

  public static Request chat(List<Message> messages) {
    Request request = new Request();
    request.messages = messages;
    return request;
  }

  public static Request text(String prompt) {
    Request request = new Request();
    request.prompt = prompt;
    return request;
  }

  /** Role and content of each message in turn. */
  static byte[][] encodeMessages(List<Message> messages) {
    List<String> texts = new ArrayList<>();
    for (Message message : messages) {
      texts.add(message.role);
      texts.add(message.content);
    }
    return Utf8.encodeAll("messages", texts);
  }

  /** Name and value of each setting in turn. */
  byte[][] encodeSettings() {
    List<String> texts = new ArrayList<>();
    for (Map.Entry<String, String> setting : settings.entrySet()) {
      texts.add(setting.getKey());
      texts.add(setting.getValue());
    }
    return Utf8.encodeAll("settings", texts);
  }
}
