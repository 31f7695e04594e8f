# glass_third_party: PCRE2, of llama.cpp its Jinja engine, nlohmann/json and SHA-256, and of libsodium
# Ed25519. None is part of the repository: the source distributions are fetched, see the variables.
#
# GLASS_TOKENIZERS_DIR: what `python -m glass_export.tokenizers_cpp` prints.
# GLASS_LLAMA_CPP_DIR: what `python -m glass_export.llama_cpp` prints.
# GLASS_LIBSODIUM_DIR: what `python -m glass_export.libsodium` prints.
enable_language(C)
set(GLASS_TOKENIZERS_DIR "" CACHE PATH "Unpacked source distribution of pytorch_tokenizers")
set(GLASS_LLAMA_CPP_DIR "" CACHE PATH "llama.cpp in the unpacked source distribution of xllamacpp")
set(GLASS_LIBSODIUM_DIR "" CACHE PATH "libsodium in the unpacked source distribution of PyNaCl")
function(glass_require variable file command)
  if(NOT EXISTS ${${variable}}/${file})
    message(FATAL_ERROR "${variable}: '${${variable}}/${file}' does not exist; give the folder that "
                        "`python -m glass_export.${command}` prints")
  endif()
endfunction()
glass_require(GLASS_TOKENIZERS_DIR third-party/pcre2/CMakeLists.txt tokenizers_cpp)
glass_require(GLASS_LLAMA_CPP_DIR common/jinja/runtime.h llama_cpp)
glass_require(GLASS_LIBSODIUM_DIR crypto_sign/ed25519/ref10/open.c libsodium)

set(PCRE2_BUILD_PCRE2_8 ON)
set(PCRE2_STATIC_PIC ON)
foreach(unneeded PCRE2_BUILD_TESTS PCRE2_BUILD_PCRE2GREP PCRE2_SUPPORT_LIBBZ2 PCRE2_SUPPORT_LIBZ
                 PCRE2_SUPPORT_LIBEDIT PCRE2_SUPPORT_LIBREADLINE BUILD_SHARED_LIBS)
  set(${unneeded} OFF)
endforeach()
set(CMAKE_POLICY_DEFAULT_CMP0077 NEW) # the settings above win over PCRE2's options
add_subdirectory(${GLASS_TOKENIZERS_DIR}/third-party/pcre2 ${CMAKE_CURRENT_BINARY_DIR}/pcre2
                 EXCLUDE_FROM_ALL)

set(common ${GLASS_LLAMA_CPP_DIR}/common)
add_library(
  glass_third_party STATIC
  ${common}/jinja/lexer.cpp ${common}/jinja/parser.cpp ${common}/jinja/runtime.cpp
  ${common}/jinja/string.cpp ${common}/jinja/value.cpp ${common}/json.cpp ${common}/unicode.cpp
  ${GLASS_LLAMA_CPP_DIR}/vendor/hash/sha256/sha256.c)
target_include_directories(
  glass_third_party SYSTEM
  PUBLIC ${common} ${GLASS_LLAMA_CPP_DIR}/vendor ${GLASS_LLAMA_CPP_DIR}/vendor/hash/sha256
         ${CMAKE_CURRENT_BINARY_DIR}/pcre2 ${CMAKE_CURRENT_BINARY_DIR}/pcre2/interface
  PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/ggml_headers ${GLASS_LLAMA_CPP_DIR}/vendor/hash)
# Small, since apps carry it, but for checksums, which gigabytes go through.
# Assertions of the libraries would end the process at what their callers refuse.
target_compile_definitions(glass_third_party PUBLIC NDEBUG)
target_compile_options(glass_third_party PRIVATE -w -Os -ffunction-sections -fdata-sections)
set_source_files_properties(${GLASS_LLAMA_CPP_DIR}/vendor/hash/sha256/sha256.c
                            PROPERTIES COMPILE_OPTIONS -O3)
target_compile_options(pcre2-8-static PRIVATE -ffunction-sections -fdata-sections)
if(GLASS_BUILD_FUZZ) # PCRE2 has its own fuzzers, and takes minutes to compile for ours
  target_compile_options(pcre2-8-static
                         PRIVATE -fno-sanitize=all)
endif()
target_link_libraries(glass_third_party PUBLIC pcre2-8-static)
set_target_properties(glass_third_party PROPERTIES POSITION_INDEPENDENT_CODE ON)

# Of libsodium only what checks a signature, and base64; without its configure script, whose findings
# for these files are the two definitions.
set(sodium ${GLASS_LIBSODIUM_DIR})
add_library(
  glass_sodium STATIC
  ${sodium}/crypto_sign/ed25519/ref10/open.c ${sodium}/crypto_sign/ed25519/ref10/sign.c
  ${sodium}/crypto_core/ed25519/ref10/ed25519_ref10.c
  ${sodium}/crypto_hash/sha512/cp/hash_sha512_cp.c ${sodium}/crypto_verify/verify.c
  ${sodium}/sodium/codecs.c libsodium/utils.c)
target_include_directories(
  glass_sodium SYSTEM
  PUBLIC ${sodium}/include
  PRIVATE ${sodium}/include/sodium ${sodium}/crypto_sign/ed25519/ref10)
target_compile_definitions(glass_sodium PRIVATE CONFIGURED=1
                                                $<$<EQUAL:${CMAKE_SIZEOF_VOID_P},8>:HAVE_TI_MODE=1>)
target_compile_options(glass_sodium PRIVATE -w -Os -ffunction-sections -fdata-sections)
set_target_properties(glass_sodium PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_link_libraries(glass_third_party PUBLIC glass_sodium)
