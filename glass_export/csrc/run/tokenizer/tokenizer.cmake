# glass_text: the tokenizer, over PCRE2 and nlohmann/json of the fetched source distribution.
enable_language(C)
set(third_party ${GLASS_TOKENIZERS_DIR}/third-party)
foreach(needed pcre2/CMakeLists.txt json/single_include/nlohmann/json.hpp)
  if(NOT EXISTS ${third_party}/${needed})
    message(FATAL_ERROR "GLASS_TOKENIZERS_DIR: ${third_party}/${needed} does not exist; give the "
                        "folder that `python -m glass_export.tokenizers_cpp` prints")
  endif()
endforeach()

set(PCRE2_BUILD_PCRE2_8 ON)
foreach(unneeded PCRE2_BUILD_TESTS PCRE2_BUILD_PCRE2GREP PCRE2_SUPPORT_LIBBZ2 PCRE2_SUPPORT_LIBZ
                 PCRE2_SUPPORT_LIBEDIT PCRE2_SUPPORT_LIBREADLINE BUILD_SHARED_LIBS)
  set(${unneeded} OFF)
endforeach()
set(CMAKE_POLICY_DEFAULT_CMP0077 NEW) # the settings above win over PCRE2's options
add_subdirectory(${third_party}/pcre2 ${CMAKE_CURRENT_BINARY_DIR}/pcre2 EXCLUDE_FROM_ALL)

add_library(
  glass_text STATIC
  text.cpp
  tokenizer/added_tokens.cpp
  tokenizer/bpe.cpp
  tokenizer/byte_level.cpp
  tokenizer/decoder.cpp
  tokenizer/normalizer.cpp
  tokenizer/pre_tokenizer.cpp
  tokenizer/regex.cpp
  tokenizer/unicode.cpp)
target_include_directories(glass_text PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/..)
target_include_directories(
  glass_text SYSTEM PRIVATE ${third_party}/json/single_include
                            ${CMAKE_CURRENT_BINARY_DIR}/pcre2 
                            ${CMAKE_CURRENT_BINARY_DIR}/pcre2/interface)
target_link_libraries(glass_text PRIVATE pcre2-8-static)
