# Tests of the driver and of glass_run. Included by run/CMakeLists.txt when GLASS_BUILD_TESTS is on.
add_executable(test_run ${CMAKE_CURRENT_LIST_DIR}/test_run.cpp
                        ${CMAKE_CURRENT_LIST_DIR}/../../glass_export/csrc/run/options.cpp
                        ${CMAKE_CURRENT_LIST_DIR}/../../glass_export/csrc/run/report.cpp)
target_link_libraries(test_run PRIVATE glass_engines
                                       $<BUILD_INTERFACE:glass_options>)
add_test(NAME test_run COMMAND test_run)

# Driven by test_run.py, which compares it with Python's tokenizer and chat templates.
add_executable(test_run_text ${CMAKE_CURRENT_LIST_DIR}/test_run_text.cpp)
target_link_libraries(test_run_text PRIVATE glass_driver $<BUILD_INTERFACE:glass_options>)

# Driven by test_attacks.py.
add_executable(read_artifact ${CMAKE_CURRENT_LIST_DIR}/read_artifact.cpp)
target_link_libraries(read_artifact PRIVATE glass_driver $<BUILD_INTERFACE:glass_options>)
