package ai.glass;

/** A complete answer. */
public final class Answer {
  public final String text;
  public final FinishReason finishReason;
  public final Stats stats;
  private final long[] tokens;

  // Called by native code; finishReason is a glass_finish_reason.
  Answer(byte[] text, long[] tokens, int finishReason, Stats stats) {
    this.text = Utf8.decode(text);
    this.tokens = tokens;
    this.finishReason = FinishReason.values()[finishReason];
    this.stats = stats;
  }

  /** A copy of the ids of the answer's tokens. */
  public long[] tokens() {
    return tokens.clone();
  }
}
