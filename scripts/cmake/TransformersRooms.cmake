# A room is one folder of the library, built as one object target; src/CMakeLists.txt has the table of levels.

# What configuring found, a line each.
function(transformers_say what value)
  if(NOT value)
    set(value "not found")
  endif()
  message(STATUS "${what}: ${value}")
endfunction()

# The shared library exports what public headers declare (include/export.h). Programs and tests are compiled alike, for
# they share the precompiled header.
set(CMAKE_CXX_VISIBILITY_PRESET hidden)

# Where programs and tests of the build tree find the plug-ins; an installation replaces it.
set(CMAKE_BUILD_RPATH "${PROJECT_BINARY_DIR}/src")

add_library(transformers_flags INTERFACE)
target_compile_features(transformers_flags INTERFACE cxx_std_20)
target_compile_options(transformers_flags INTERFACE -Wall -Wextra $<$<BOOL:${TRANSFORMERS_WARNINGS_AS_ERRORS}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 takes "a" + text for an overlapping copy at -O3 (its bug 105651).
  target_compile_options(transformers_flags INTERFACE -Wno-restrict)
endif()
if(CMAKE_UNITY_BUILD)
  # It takes the private names of an included source for those of a header.
  target_compile_options(transformers_flags INTERFACE -Wno-subobject-linkage)
endif()

# transformers_compiled_alone(file...)
# For a unity build: files whose private names others of their folder have, too.
function(transformers_compiled_alone)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

function(transformers_use_precompiled_header target)
  if(TRANSFORMERS_PRECOMPILE_HEADERS)
    target_precompile_headers(${target} REUSE_FROM transformers_pch)
    # GCC refuses a header precompiled with -fPIC in a file compiled with -fPIE.
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
endfunction()

# transformers_room(NAME SOURCES file... [LIBRARIES library...] [PLAIN])
#   LIBRARIES  packages that only this room's sources see
#   PLAIN      the room does not include LibTorch's module headers: no precompiled header
function(transformers_room name)
  cmake_parse_arguments(ROOM "PLAIN" "" "SOURCES;LIBRARIES" ${ARGN})
  set(target transformers_${name})
  add_library(${target} OBJECT ${ROOM_SOURCES})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_include_directories(
    ${target}
    PRIVATE "${PROJECT_BINARY_DIR}/include" "${PROJECT_BINARY_DIR}/generated" "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(${target} PRIVATE libtorch::cpu transformers_flags ${ROOM_LIBRARIES})
  if(NOT ROOM_PLAIN)
    transformers_use_precompiled_header(${target})
  endif()
  set_property(GLOBAL APPEND PROPERTY TRANSFORMERS_ROOMS ${target})
  set_property(GLOBAL APPEND PROPERTY TRANSFORMERS_PRIVATE_LIBRARIES ${ROOM_LIBRARIES})
endfunction()

# transformers_plugin(NAME SOURCES file... [INCLUDES folder...] LIBRARIES library...)
# A shared library that is loaded while the program runs. It lies beside the library, is built with it and installed with it.
function(transformers_plugin name)
  cmake_parse_arguments(PLUGIN "" "" "SOURCES;INCLUDES;LIBRARIES" ${ARGN})
  set(target transformers_${name})
  set(folder "${CMAKE_LIBRARY_OUTPUT_DIRECTORY}")
  if(NOT folder)
    set(folder "${PROJECT_BINARY_DIR}/src")
  endif()
  add_library(${target} MODULE ${PLUGIN_SOURCES})
  set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${folder}" CXX_VISIBILITY_PRESET default)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/src" SYSTEM PRIVATE ${PLUGIN_INCLUDES})
  target_link_libraries(${target} PRIVATE ${PLUGIN_LIBRARIES} transformers_flags)
  set_property(GLOBAL APPEND PROPERTY TRANSFORMERS_PLUGINS ${target})
endfunction()

# transformers_test(NAME SOURCES file... [LIBRARIES library...] [LABELS label...])
# One program and one ctest entry; label `unit` when nothing else is said.
function(transformers_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT TEST_LABELS)
    set(TEST_LABELS unit)
  endif()
  add_executable(test_${name} ${TEST_SOURCES})
  set_target_properties(test_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  target_include_directories(test_${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests" "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(test_${name} PRIVATE transformers_internals transformers_flags transformers_test_support ${TEST_LIBRARIES})
  transformers_use_precompiled_header(test_${name})
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES LABELS "${TEST_LABELS}" TIMEOUT 600)
endfunction()
