package ai.glass;

/** What an open session runs. */
public final class SessionInfo {
  public final String model;
  public final String family;

  /** Of the linear layers: fp32, int8 or int4. */
  public final String dtype;

  public final long layers;
  public final long dFf;
  public final long vocabSize;

  /** The context in tokens, prompt and answer together. */
  public final long maxLength;

  /** The artifact's own density. */
  public final double density;

  public final boolean hasChatTemplate;
  public final double loadMs;

  SessionInfo(
      byte[] model,
      byte[] family,
      byte[] dtype,
      long layers,
      long dFf,
      long vocabSize,
      long maxLength,
      double density,
      boolean hasChatTemplate,
      double loadMs) {
    this.model = Utf8.decode(model);
    this.family = Utf8.decode(family);
    this.dtype = Utf8.decode(dtype);
    this.layers = layers;
    this.dFf = dFf;
    this.vocabSize = vocabSize;
    this.maxLength = maxLength;
    this.density = density;
    this.hasChatTemplate = hasChatTemplate;
    this.loadMs = loadMs;
  }
}
