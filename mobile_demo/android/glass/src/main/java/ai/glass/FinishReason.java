package ai.glass;

/** Why an answer ended; in the order of {@code glass_finish_reason}. */
public enum FinishReason {
  /** End of text, or a stop string. */
  STOP,
  /** {@link Request#maxNewTokens} were made. */
  LENGTH,
  /** The context is full. */
  CONTEXT,
  /** It was cancelled: what there was until then is the answer. */
  CANCELLED
}
