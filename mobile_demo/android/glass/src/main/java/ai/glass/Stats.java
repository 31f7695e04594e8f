package ai.glass;

/** Figures of one answer. */
public final class Stats {
  public final long promptTokens;

  /** Tokens of the prompt that were not computed again. */
  public final long reusedTokens;

  public final long newTokens;

  /** Tokens a second, of the prompt's that were computed. */
  public final double prefillTps;

  /** Milliseconds from the call to the first token. */
  public final double ttftMs;

  /** Milliseconds of the choice of neurons before the first token. */
  public final double fusionMs;

  /** Tokens a second from the second on; 0 when there was none. */
  public final double decodeTps;

  /** Later choices of neurons, and their milliseconds. */
  public final long refreshes;

  public final double refreshMs;

  public final double density;

  /** Neurons of a layer that were chosen. */
  public final long keptNeurons;

  /** Resident memory of the process now and at most, 10^6 bytes; 0 when unknown. */
  public final double rssMb;

  public final double peakRssMb;

  Stats(
      long promptTokens,
      long reusedTokens,
      long newTokens,
      double prefillTps,
      double ttftMs,
      double fusionMs,
      double decodeTps,
      long refreshes,
      double refreshMs,
      double density,
      long keptNeurons,
      double rssMb,
      double peakRssMb) {
    this.promptTokens = promptTokens;
    this.reusedTokens = reusedTokens;
    this.newTokens = newTokens;
    this.prefillTps = prefillTps;
    this.ttftMs = ttftMs;
    this.fusionMs = fusionMs;
    this.decodeTps = decodeTps;
    this.refreshes = refreshes;
    this.refreshMs = refreshMs;
    this.density = density;
    this.keptNeurons = keptNeurons;
    this.rssMb = rssMb;
    this.peakRssMb = peakRssMb;
  }
}
