# For every target of a folder and those below it.
include_guard(DIRECTORY)
set(GLASS_SANITIZE "" CACHE STRING "Sanitizers for everything, such as address,undefined or thread")
if(GLASS_SANITIZE)
  add_compile_options(-fsanitize=${GLASS_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${GLASS_SANITIZE})
endif()
