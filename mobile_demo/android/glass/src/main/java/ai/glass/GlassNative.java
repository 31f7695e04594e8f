package ai.glass;

/**
 * The functions of {@code glass_jni.cpp}, one for one those of {@code glass.h}. Strings are UTF-8
 * bytes, handles are pointers; both are checked by the classes around this one. Each function
 * throws a {@link GlassException} when the one of {@code glass.h} does not return GLASS_OK.
 */
final class GlassNative {
  static {
    System.loadLibrary("glass_jni");
  }

  private GlassNative() {}

  static native long newCancellation();

  static native void cancel(long cancellation);

  static native void freeCancellation(long cancellation);

  /** With trusted keys glass_verify_signed; null: glass_verify. */
  static native void verify(byte[] directory, byte[] trustedKeys, long cancellation);

  static native long open(
      byte[] directory,
      long threads,
      boolean skipMemoryCheck,
      long memoryLimit,
      byte[] trustedKeys);

  static native void close(long session);

  static native SessionInfo info(long session);

  /** Messages and settings are pairs, one after the other; `listener` may be null. */
  static native Answer generate(
      long session,
      byte[] prompt,
      byte[][] messages,
      byte[] profile,
      byte[][] settings,
      long maxNewTokens,
      double temperature,
      long topK,
      double topP,
      double minP,
      double repetitionPenalty,
      boolean hasSeed,
      long seed,
      byte[][] stop,
      boolean reset,
      TextListener listener,
      long cancellation);

  static native byte[] renderChat(long session, byte[][] messages);

  static native void reset(long session);

  // Called by native code.
  static void deliver(TextListener listener, byte[] piece) {
    listener.onText(Utf8.decode(piece));
  }
}
