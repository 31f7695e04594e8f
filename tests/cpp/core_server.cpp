// The core's C interface over standard input and output, so that a build for another processor can
// be tested under an emulator by the same tests: see tests/remote_calls.py.
//
// A request is the length of a function's name (4 bytes), the name, and its arguments in order: a
// number as 8 bytes (integers and doubles as they are, floats as doubles), memory as its size (8
// bytes; -1 for null) and its bytes. The answer is the result in 8 bytes, or a text's size and
// bytes, and then each memory that is not null, as its size and bytes; 0 for what is const.
// Little-endian.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "glass_core.cpp"

namespace {

void receive(void* data, size_t size) {
  if (size > 0 && std::fread(data, 1, size, stdin) != size) std::exit(0);
}

void send(const void* data, size_t size) {
  if (size > 0 && std::fwrite(data, 1, size, stdout) != size) std::exit(1);
}

template <class T>
T receive_number() {
  std::conditional_t<std::is_floating_point_v<T>, double, int64_t> number;
  receive(&number, sizeof(number));
  return static_cast<T>(number);
}

// One argument, alive during the call.
template <class T>
struct Argument {
  T value = receive_number<T>();
  T get() { return value; }
  void answer() {}
};

template <class T>
struct Argument<T*> {
  int64_t size = receive_number<int64_t>();
  std::vector<char> bytes = std::vector<char>(size > 0 ? static_cast<size_t>(size) : 0);

  Argument() { receive(bytes.data(), bytes.size()); }
  T* get() { return size < 0 ? nullptr : reinterpret_cast<T*>(bytes.data()); }
  void answer() {
    if (size < 0) return;
    const int64_t changed = std::is_const_v<T> ? 0 : size;
    send(&changed, sizeof(changed));
    send(bytes.data(), static_cast<size_t>(changed));
  }
};

void answer(int64_t result) { send(&result, sizeof(result)); }

void answer(const char* text) {
  answer(static_cast<int64_t>(std::strlen(text)));
  send(text, std::strlen(text));
}

template <class Result, class... Args>
void serve(Result (*function)(Args...)) {
  std::tuple<Argument<Args>...> arguments{Argument<Args>()...};
  std::apply([&](auto&... each) { answer(function(each.get()...)); }, arguments);
  std::apply([](auto&... each) { (each.answer(), ...); }, arguments);
}

template <auto kFunction>
void serve_one() {
  serve(kFunction);
}

#define GLASS_ENTRY(name) \
  { #name, serve_one < glass_core_##name> }

const std::map<std::string, void (*)()> kFunctions = {
    GLASS_ENTRY(active_isa),     GLASS_ENTRY(add_rms_norm),        GLASS_ENTRY(borda),
    GLASS_ENTRY(bundle_bytes),   GLASS_ENTRY(check_neurons),       GLASS_ENTRY(dense_ffn),
    GLASS_ENTRY(embedding),      GLASS_ENTRY(isa_available),       GLASS_ENTRY(isa_name),
    GLASS_ENTRY(linear),         GLASS_ENTRY(local_scores),        GLASS_ENTRY(ranks),
    GLASS_ENTRY(rms_norm),       GLASS_ENTRY(rotary_attention),    GLASS_ENTRY(row_bytes),
    GLASS_ENTRY(select_neurons), GLASS_ENTRY(sensitivity_weights), GLASS_ENTRY(set_isa),
    GLASS_ENTRY(shrinkage),      GLASS_ENTRY(sparse_ffn),          GLASS_ENTRY(status_message),
    GLASS_ENTRY(top_k),          GLASS_ENTRY(top_k_fused),
};

}  // namespace

int main() {
  for (;;) {
    uint32_t length = 0;
    receive(&length, sizeof(length));
    std::string name(length, '\0');
    receive(name.data(), name.size());
    const auto found = kFunctions.find(name);
    if (found == kFunctions.end()) {
      std::fprintf(stderr, "core_server: no function '%s'\n", name.c_str());
      return 1;
    }
    found->second();
    std::fflush(stdout);
  }
}
