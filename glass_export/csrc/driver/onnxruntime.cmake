# glass_onnxruntime_engine: the library of ONNX Runtime, such as the one in its Python package.
if(NOT EXISTS "${GLASS_ONNXRUNTIME_LIBRARY}")
  message(FATAL_ERROR "GLASS_ONNXRUNTIME_LIBRARY: got '${GLASS_ONNXRUNTIME_LIBRARY}', expected the "
                      "library of ONNX Runtime 1.23 or newer")
endif()
set(library ${GLASS_ONNXRUNTIME_LIBRARY})
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # Python's package has it by its full version only, but programs look for it by this name.
  set(library ${CMAKE_CURRENT_BINARY_DIR}/lib/libonnxruntime.so.1)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/lib)
  file(CREATE_LINK ${GLASS_ONNXRUNTIME_LIBRARY} ${library} SYMBOLIC)
endif()
if(library MATCHES "[.]a$")
  add_library(glass_onnxruntime_engine STATIC IMPORTED GLOBAL)
else()
  add_library(glass_onnxruntime_engine SHARED IMPORTED GLOBAL)
endif()
set_target_properties(glass_onnxruntime_engine PROPERTIES IMPORTED_LOCATION ${library})
