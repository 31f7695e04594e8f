package ai.glass;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;

/**
 * The library for Java on a desktop's virtual machine, over the real engine. Run by
 * tests/unit/test_jni.py: {@code contract DIRECTORY DAMAGED}, {@code converse DIRECTORY TOKENS
 * DENSITY MESSAGE...} or {@code leaks DIRECTORY COUNT}.
 */
public final class JniTest {
  private static final String WIDE = "é 😀 你好 \uD83D\uDC69\u200D\uD83D\uDCBB";

  private JniTest() {}

  public static void main(String[] arguments) throws Exception {
    File directory = new File(arguments[1]);
    switch (arguments[0]) {
      case "contract":
        contract(directory, new File(arguments[2]));
        break;
      case "converse":
        converse(
            directory,
            Long.parseLong(arguments[2]),
            arguments[3],
            Arrays.asList(arguments).subList(4, arguments.length));
        break;
      case "leaks":
        System.out.println(growth(directory, Integer.parseInt(arguments[2])));
        break;
      default:
        throw new IllegalArgumentException(arguments[0]);
    }
  }

  private static void contract(File directory, File damaged) throws Exception {
    opening(directory, damaged);
    try (GlassSession session = GlassSession.open(directory, new OpenOptions())) {
      info(session);
      textOutsideTheBasicPlane(session);
      settings(session);
      refusedRequests(session);
      sampling(session);
      listenerThatThrows(session);
      cancelledByAnotherThread(session);
      busyWithAnotherThread(session);
    }
    closing(directory);
  }

  private static void opening(File directory, File damaged) {
    GlassSession.verify(directory, null);
    expect(GlassException.BadArtifact.class, "SHA-256", () -> GlassSession.verify(damaged, null));
    File missing = new File(directory, "nicht da 😀");
    GlassException problem =
        expect(GlassException.BadArtifact.class, "", () -> GlassSession.open(missing, options()));
    check(problem.getMessage().contains(missing.getPath()), problem.getMessage());
    OpenOptions small = options();
    small.memoryLimit = 1000;
    expect(
        GlassException.OutOfMemory.class, "memory", () -> GlassSession.open(directory, small));
    small.skipMemoryCheck = true;
    GlassSession.open(directory, small).close();
    OpenOptions signed = options();
    signed.trustedKeys = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    expect(GlassException.BadArtifact.class, "not signed", () -> GlassSession.open(directory, signed));
    expect(
        GlassException.BadArtifact.class,
        "not signed",
        () -> GlassSession.verify(directory, signed.trustedKeys, null));
    signed.trustedKeys = "no key";
    expect(GlassException.InvalidArgument.class, "base64", () -> GlassSession.open(directory, signed));
    Cancellation cancellation = new Cancellation();
    cancellation.cancel();
    expect(GlassException.Cancelled.class, "", () -> GlassSession.verify(directory, cancellation));
    cancellation.close();
    cancellation.cancel();
    cancellation.close();
  }

  private static void info(GlassSession session) {
    SessionInfo info = session.info();
    check(info.layers > 0 && info.dFf > 0 && info.vocabSize > 0 && info.maxLength > 0, "sizes");
    check(!info.model.isEmpty() && !info.family.isEmpty(), info.model);
    check(info.dtype.equals("fp32") && info.hasChatTemplate && info.loadMs > 0, info.dtype);
    check(info.density > 0 && info.density <= 1, "density");
  }

  private static void textOutsideTheBasicPlane(GlassSession session) {
    String rendered = session.renderChat(List.of(new Message("user", WIDE)));
    check(rendered.contains(WIDE), rendered);
    Request request = chat(WIDE);
    request.maxNewTokens = 24;
    StringBuilder streamed = new StringBuilder();
    Answer answer =
        session.generate(
            request,
            null,
            piece -> {
              check(!piece.isEmpty(), "an empty piece");
              check(!Character.isHighSurrogate(piece.charAt(piece.length() - 1)), "half a character");
              streamed.append(piece);
            });
    check(streamed.toString().equals(answer.text), streamed + " instead of " + answer.text);
    Stats stats = answer.stats;
    check(stats.newTokens == answer.tokens().length && stats.newTokens > 0, "new tokens");
    check(stats.ttftMs > 0 && stats.rssMb > 0 && stats.peakRssMb >= stats.rssMb, "stats");
    check(stats.promptTokens > 0 && stats.reusedTokens == 0 && stats.keptNeurons > 0, "counts");
    session.reset();
  }

  private static void settings(GlassSession session) {
    Request request = chat("the quick brown fox");
    request.maxNewTokens = 24;
    request.settings.put("density", "0.25");
    request.settings.put("refresh", "4");
    Answer sparse = session.generate(request, null, null);
    check(sparse.stats.density == 0.25 && sparse.stats.refreshes > 0, "settings");
    Request stopped = chat("the quick brown fox");
    stopped.settings.putAll(request.settings);
    stopped.stop.add(sparse.text.substring(sparse.text.length() / 2));
    stopped.reset = true;
    Answer cut = session.generate(stopped, null, null);
    check(cut.finishReason == FinishReason.STOP, cut.finishReason.toString());
    check(sparse.text.startsWith(cut.text) && cut.text.length() < sparse.text.length(), cut.text);
  }

  private static void refusedRequests(GlassSession session) {
    Request unknown = chat("hello");
    unknown.settings.put("no such", "1");
    refused(session, unknown, "no such");
    Request profile = chat("hello");
    profile.profile = "no such";
    refused(session, profile, "no such");
    refused(session, new Request(), "prompt");
    refused(session, Request.text("null \0 inside"), "null character");
    Request stop = chat("hello");
    stop.stop.add(null);
    refused(session, stop, "null");
    expect(
        GlassException.ContextFull.class,
        "context",
        () -> session.generate(Request.text("hello ".repeat(5000)), null, null));
  }

  private static void sampling(GlassSession session) {
    Request request = chat("the quick brown fox");
    request.maxNewTokens = 16;
    request.temperature = 1.5;
    request.topK = 50;
    request.topP = 0.95;
    request.minP = 0.001;
    request.repetitionPenalty = 1.1;
    request.seed = Long.MIN_VALUE;
    request.reset = true;
    long[] first = session.generate(request, null, null).tokens();
    check(Arrays.equals(first, session.generate(request, null, null).tokens()), "the same seed");
    request.seed = 8L;
    check(!Arrays.equals(first, session.generate(request, null, null).tokens()), "another seed");
  }

  private static void listenerThatThrows(GlassSession session) {
    IllegalStateException own = new IllegalStateException("of the listener");
    try {
      session.generate(
          chat("hello"),
          null,
          piece -> {
            throw own;
          });
      check(false, "the listener's exception was lost");
    } catch (IllegalStateException caught) {
      check(caught == own, caught.toString());
    }
  }

  private static void cancelledByAnotherThread(GlassSession session) throws Exception {
    try (Cancellation cancellation = new Cancellation()) {
      CountDownLatch started = new CountDownLatch(1);
      CountDownLatch cancelled = new CountDownLatch(1);
      Thread stopper =
          new Thread(
              () -> {
                await(started);
                cancellation.cancel();
                cancelled.countDown();
              });
      stopper.start();
      Answer answer =
          session.generate(
              endless(),
              cancellation,
              piece -> {
                started.countDown();
                await(cancelled);
              });
      stopper.join();
      check(answer.finishReason == FinishReason.CANCELLED, answer.finishReason.toString());
    }
  }

  private static void busyWithAnotherThread(GlassSession session) throws Exception {
    try (Cancellation cancellation = new Cancellation()) {
      CountDownLatch started = new CountDownLatch(1);
      CountDownLatch refused = new CountDownLatch(1);
      AtomicReference<Answer> answer = new AtomicReference<>();
      Thread other =
          new Thread(
              () ->
                  answer.set(
                      session.generate(
                          endless(),
                          cancellation,
                          piece -> {
                            started.countDown();
                            await(refused);
                          })));
      other.start();
      started.await();
      expect(GlassException.Busy.class, "another call", session::reset);
      cancellation.cancel();
      refused.countDown();
      other.join();
      check(answer.get().finishReason == FinishReason.CANCELLED, "cancelled");
    }
  }

  // Closing while an answer is made: the answer is complete, then the session is gone.
  private static void closing(File directory) {
    GlassSession session = GlassSession.open(directory, options());
    Request request = chat("hello");
    request.maxNewTokens = 4;
    Answer answer = session.generate(request, null, piece -> session.close());
    check(answer.stats.newTokens > 0, "the answer");
    try {
      session.info();
      check(false, "a closed session was used");
    } catch (IllegalStateException expected) {
      check(expected.getMessage().contains("closed"), expected.getMessage());
    }
    session.close();
  }

  private static void converse(File directory, long tokens, String density, List<String> texts) {
    try (GlassSession session = GlassSession.open(directory, options())) {
      List<Message> turns = new ArrayList<>();
      for (String text : texts) {
        turns.add(new Message("user", text));
        Request request = Request.chat(turns);
        request.maxNewTokens = tokens;
        request.settings.put("density", density);
        Answer answer = session.generate(request, null, null);
        turns.add(new Message("assistant", answer.text));
        StringBuilder line = new StringBuilder().append(answer.stats.reusedTokens).append(':');
        for (long token : answer.tokens()) line.append(' ').append(token);
        System.out.println(line);
      }
    }
  }

  /** KB of resident memory that the second half of `count` sessions added. */
  private static long growth(File directory, int count) throws IOException {
    long half = 0;
    for (int i = 0; i < count; i++) {
      if (i == count / 2) half = residentKb();
      try (GlassSession session = GlassSession.open(directory, options());
          Cancellation cancellation = new Cancellation()) {
        Request request = chat("hello");
        request.maxNewTokens = 2;
        session.generate(request, cancellation, piece -> {});
        request.profile = "no such";
        expect(
            GlassException.InvalidArgument.class,
            "",
            () -> session.generate(request, cancellation, null));
      }
    }
    return residentKb() - half;
  }

  private static long residentKb() throws IOException {
    System.gc();
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmRSS:")) return Long.parseLong(line.replaceAll("\\D", ""));
    }
    throw new IOException("/proc/self/status: no VmRSS");
  }

  private static OpenOptions options() {
    return new OpenOptions();
  }

  private static Request chat(String text) {
    return Request.chat(List.of(new Message("user", text)));
  }

  /** Its only end is that of the context. */
  private static Request endless() {
    Request request = chat("the quick brown fox");
    request.maxNewTokens = 100_000;
    request.reset = true;
    return request;
  }

  private static void refused(GlassSession session, Request request, String text) {
    expect(
        GlassException.InvalidArgument.class, text, () -> session.generate(request, null, null));
  }

  private static <E extends GlassException> E expect(Class<E> type, String text, Runnable body) {
    try {
      body.run();
    } catch (GlassException problem) {
      check(type.isInstance(problem), problem.toString());
      check(problem.getMessage().contains(text), problem.getMessage());
      check(!problem.getMessage().isEmpty(), "a message");
      return type.cast(problem);
    }
    throw new AssertionError(type.getSimpleName() + " was not thrown");
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException problem) {
      throw new IllegalStateException(problem);
    }
  }

  private static void check(boolean holds, String what) {
    if (!holds) throw new AssertionError(what);
  }
}
