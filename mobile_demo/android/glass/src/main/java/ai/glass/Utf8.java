package ai.glass;

import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * Strings as native code takes them: UTF-8 bytes. JNI's own strings are "modified UTF-8", in which
 * an emoji is two surrogates of three bytes each, which no tokenizer reads.
 */
final class Utf8 {
  private Utf8() {}

  /** Null for null. The native strings end in a null character, so a text cannot hold one. */
  static byte[] encode(String name, String text) {
    if (text == null) return null;
    if (text.indexOf('\0') >= 0) {
      throw new GlassException.InvalidArgument(
          name + ": has a null character; take it out, no text has one");
    }
    return text.getBytes(StandardCharsets.UTF_8);
  }

  static byte[][] encodeAll(String name, List<String> texts) {
    byte[][] encoded = new byte[texts.size()][];
    for (int i = 0; i < encoded.length; i++) {
      if (texts.get(i) == null) {
        throw new GlassException.InvalidArgument(name + ": entry " + i + " is null");
      }
      encoded[i] = encode(name, texts.get(i));
    }
    return encoded;
  }

  static String decode(byte[] text) {
    return new String(text, StandardCharsets.UTF_8);
  }
}
