package ai.glass;

/** How to open an artifact. */
public final class OpenOptions {
  /** Threads of the engine; 0 lets it decide. */
  public long threads = 0;

  /** Load even what does not seem to fit into memory. */
  public boolean skipMemoryCheck = false;

  /** Bytes to fit into; 0: what the system says is available. */
  public long memoryLimit = 0;

  /**
   * Ed25519 public keys in base64, separated by white space: one of them must have signed the
   * artifact, and every file is compared with what was signed. Null asks for no signature.
   */
  public String trustedKeys = null;
}
