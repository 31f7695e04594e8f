package ai.glass;

/** A call of the native library that failed. The message says what, and what to do about it. */
public class GlassException extends RuntimeException {
  GlassException(String message) {
    super(message);
  }

  // The constructors that native code calls; messages of glass.h are UTF-8.
  GlassException(byte[] message) {
    this(Utf8.decode(message));
  }

  /** The request cannot be carried out as it is. */
  public static final class InvalidArgument extends GlassException {
    InvalidArgument(byte[] message) {
      super(message);
    }

    InvalidArgument(String message) {
      super(message);
    }
  }

  /** The artifact is missing, damaged, of another version, or not for this build. */
  public static final class BadArtifact extends GlassException {
    BadArtifact(byte[] message) {
      super(message);
    }
  }

  /** The memory that is available is not enough; a smaller artifact may fit. */
  public static final class OutOfMemory extends GlassException {
    OutOfMemory(byte[] message) {
      super(message);
    }
  }

  /** The prompt has more tokens than the context holds: start a new conversation. */
  public static final class ContextFull extends GlassException {
    ContextFull(byte[] message) {
      super(message);
    }
  }

  /** {@link GlassSession#verify} was cancelled. */
  public static final class Cancelled extends GlassException {
    Cancelled(byte[] message) {
      super(message);
    }
  }

  /** The engine failed, or computed NaN. */
  public static final class EngineFailed extends GlassException {
    EngineFailed(byte[] message) {
      super(message);
    }
  }

  /** Another thread's call uses the session. */
  public static final class Busy extends GlassException {
    Busy(byte[] message) {
      super(message);
    }
  }

  /** A fault of the native library. */
  public static final class Internal extends GlassException {
    Internal(byte[] message) {
      super(message);
    }
  }
}
