package ai.glass;

/**
 * A flag that one thread sets to end what another does. Once set it stays set: use a new one for
 * each call.
 */
public final class Cancellation extends NativeHandle {
  public Cancellation() {
    super(GlassNative.newCancellation());
  }

  /** From any thread; after {@link #close} it does nothing. */
  public synchronized void cancel() {
    if (isClosed()) return;
    GlassNative.cancel(acquire());
    release();
  }

  @Override
  void free(long pointer) {
    GlassNative.freeCancellation(pointer);
  }
}
