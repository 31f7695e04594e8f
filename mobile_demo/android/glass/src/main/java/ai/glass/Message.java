package ai.glass;

import java.util.Objects;

/** One turn of a conversation. */
public final class Message {
  /** {@code system}, {@code user} or {@code assistant}. */
  public final String role;

  public final String content;

  public Message(String role, String content) {
    this.role = Objects.requireNonNull(role, "role");
    this.content = Objects.requireNonNull(content, "content");
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Message
        && role.equals(((Message) other).role)
        && content.equals(((Message) other).content);
  }

  @Override
  public int hashCode() {
    return Objects.hash(role, content);
  }

  @Override
  public String toString() {
    return role + ": " + content;
  }
}
