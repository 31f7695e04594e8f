package ai.glass;

/** Takes an answer piece by piece. */
@FunctionalInterface
public interface TextListener {
  /**
   * Called on the thread that generates, with whole characters. It must not call into the session.
   * What it throws ends the answer, and leaves {@link GlassSession#generate}.
   */
  void onText(String piece);
}
