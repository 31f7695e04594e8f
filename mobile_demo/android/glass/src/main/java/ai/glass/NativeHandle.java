package ai.glass;

/**
 * A pointer of native code that is freed once: when it is closed and no call uses it any more.
 */
abstract class NativeHandle implements AutoCloseable {
  private long pointer;
  private int users;
  private boolean closed;

  NativeHandle(long pointer) {
    this.pointer = pointer;
  }

  /** Frees what the pointer points to; called once. */
  abstract void free(long pointer);

  /** The pointer, valid until as many calls of {@link #release}. */
  final synchronized long acquire() {
    if (closed) throw new IllegalStateException(getClass().getSimpleName() + ": it is closed");
    users++;
    return pointer;
  }

  final synchronized void release() {
    users--;
    freeWhenUnused();
  }

  final synchronized boolean isClosed() {
    return closed;
  }

  /**
   * Later calls fail with {@link IllegalStateException}. The memory is freed now, or, when a call
   * is running, as soon as that has returned. Closing again does nothing.
   */
  @Override
  public final synchronized void close() {
    closed = true;
    freeWhenUnused();
  }

  private void freeWhenUnused() {
    if (!closed || users > 0 || pointer == 0) return;
    free(pointer);
    pointer = 0;
  }
}
