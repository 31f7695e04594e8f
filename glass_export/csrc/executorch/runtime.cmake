# ExecuTorch as two targets, whichever way it comes:
#
# glass_executorch_runtime: what operators are compiled against.
# glass_executorch_engine: what runs a model besides; kernels and the XNNPACK backend.
#
# The Python package's SDK has shared libraries. An installation of ExecuTorch's own build, the only
# one for phones, has archives; those that register something carry the options to be linked whole.
find_package(executorch REQUIRED)
add_library(glass_executorch_runtime INTERFACE)
add_library(glass_executorch_engine INTERFACE)
target_link_libraries(glass_executorch_engine INTERFACE glass_executorch_runtime)
if(TARGET executorch::runtime)
  target_link_libraries(glass_executorch_runtime INTERFACE executorch::runtime
                                                           executorch::threadpool)
  target_link_libraries(glass_executorch_engine
                        INTERFACE executorch::kernels_optimized executorch::kernels_quantized
                                  executorch::backend_xnnpack)
else()
  foreach(needed executorch extension_module_static extension_tensor extension_threadpool
                 optimized_native_cpu_ops_lib quantized_ops_lib xnnpack_backend)
    if(NOT TARGET ${needed})
      message(FATAL_ERROR "ExecuTorch in '${executorch_DIR}' has no ${needed}; build it with the "
                          "options of mobile_demo/android/build_native.sh")
    endif()
  endforeach()
  target_link_libraries(glass_executorch_runtime INTERFACE executorch extension_threadpool)
  target_link_libraries(
    glass_executorch_engine
    INTERFACE extension_module_static extension_tensor optimized_native_cpu_ops_lib
              quantized_ops_lib xnnpack_backend)
endif()
