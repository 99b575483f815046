# Finds LibTorch without torch's own CMake package, so that no CUDA toolkit is needed to build against a CUDA wheel.
#
# Looks, in this order, at
#   LibTorch_ROOT / LIBTORCH (CMake or environment)   an unpacked LibTorch archive, or the `torch` folder of a wheel
#   Torch_DIR, CMAKE_PREFIX_PATH                       the same, said as torch's own package says it
#   the Python interpreter's `torch` package           located without importing it
#
# Targets
#   libtorch::cpu    libtorch_cpu and libc10; everything a CPU program needs
#   libtorch::openmp the OpenMP runtime that libtorch_cpu loads, for a static library that uses it; a shared one finds it loaded
#   libtorch::cuda   adds libtorch_cuda and libc10_cuda, where the package holds them
# Variables: LibTorch_FOUND, LibTorch_VERSION, LibTorch_INCLUDE_DIR, LibTorch_LIBRARY_DIR

set(_libtorch_hints ${LibTorch_ROOT} ${LIBTORCH} $ENV{LibTorch_ROOT} $ENV{LIBTORCH})
if(Torch_DIR)
  get_filename_component(_libtorch_from_config "${Torch_DIR}/../../.." ABSOLUTE)
  list(APPEND _libtorch_hints "${_libtorch_from_config}")
endif()
foreach(_prefix IN LISTS CMAKE_PREFIX_PATH)
  # A wheel names <torch>/share/cmake as its prefix, an archive names its top folder.
  list(APPEND _libtorch_hints "${_prefix}" "${_prefix}/../..")
endforeach()

find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h PATHS ${_libtorch_hints} PATH_SUFFIXES include NO_DEFAULT_PATH)
if(NOT LibTorch_INCLUDE_DIR)
  find_package(Python3 COMPONENTS Interpreter QUIET)
  if(Python3_Interpreter_FOUND)
    execute_process(
      COMMAND "${Python3_EXECUTABLE}" -c
              "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE _libtorch_wheel OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h PATHS "${_libtorch_wheel}/include" NO_DEFAULT_PATH)
  endif()
endif()

get_filename_component(_libtorch_root "${LibTorch_INCLUDE_DIR}/.." ABSOLUTE)
foreach(_library torch_cpu c10 torch_cuda c10_cuda)
  find_library(LibTorch_${_library}_LIBRARY ${_library} PATHS "${_libtorch_root}/lib" NO_DEFAULT_PATH)
  mark_as_advanced(LibTorch_${_library}_LIBRARY)
endforeach()
mark_as_advanced(LibTorch_INCLUDE_DIR)
if(LibTorch_c10_LIBRARY)
  get_filename_component(LibTorch_LIBRARY_DIR "${LibTorch_c10_LIBRARY}" DIRECTORY)
endif()

# The version header moved between releases.
foreach(_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(NOT LibTorch_VERSION AND EXISTS "${LibTorch_INCLUDE_DIR}/${_header}")
    file(STRINGS "${LibTorch_INCLUDE_DIR}/${_header}" _libtorch_version
         REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" _libtorch_version "${_libtorch_version}")
    string(REPLACE ";" "." LibTorch_VERSION "${_libtorch_version}")
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  LibTorch
  REQUIRED_VARS LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION HANDLE_VERSION_RANGE
  REASON_FAILURE_MESSAGE
    "LibTorch was not found. Run scripts/setup.sh, activate a Python environment that has torch, or set LIBTORCH to an unpacked LibTorch archive.")

if(LibTorch_FOUND AND NOT TARGET libtorch::cpu)
  find_package(Threads REQUIRED)
  add_library(libtorch::c10 SHARED IMPORTED)
  set_target_properties(
    libtorch::c10 PROPERTIES
    IMPORTED_LOCATION "${LibTorch_c10_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_INCLUDE_DIR};${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  add_library(libtorch::torch_cpu SHARED IMPORTED)
  # The definitions are those torch was built with: they change class layouts in the c10d headers.
  set_target_properties(
    libtorch::torch_cpu PROPERTIES
    IMPORTED_LOCATION "${LibTorch_torch_cpu_LIBRARY}"
    INTERFACE_COMPILE_DEFINITIONS "USE_DISTRIBUTED;USE_C10D_GLOO;USE_RPC;USE_TENSORPIPE"
    INTERFACE_COMPILE_FEATURES cxx_std_20
    INTERFACE_LINK_LIBRARIES libtorch::c10)
  add_library(libtorch::cpu INTERFACE IMPORTED)
  target_link_libraries(libtorch::cpu INTERFACE libtorch::torch_cpu libtorch::c10 Threads::Threads)
  add_library(libtorch::openmp INTERFACE IMPORTED)
  file(GLOB _libtorch_openmp "${LibTorch_LIBRARY_DIR}/libgomp*.so*" "${LibTorch_LIBRARY_DIR}/libiomp5.so")
  if(NOT _libtorch_openmp)
    find_package(OpenMP REQUIRED COMPONENTS CXX)
    set(_libtorch_openmp ${OpenMP_CXX_LIBRARIES})
  endif()
  target_link_libraries(libtorch::openmp INTERFACE ${_libtorch_openmp})
  if(LibTorch_torch_cuda_LIBRARY AND LibTorch_c10_cuda_LIBRARY)
    add_library(libtorch::c10_cuda SHARED IMPORTED)
    set_target_properties(libtorch::c10_cuda PROPERTIES IMPORTED_LOCATION "${LibTorch_c10_cuda_LIBRARY}")
    add_library(libtorch::torch_cuda SHARED IMPORTED)
    set_target_properties(libtorch::torch_cuda PROPERTIES IMPORTED_LOCATION "${LibTorch_torch_cuda_LIBRARY}")
    # Kernels register themselves in static constructors: keep the library although no symbol of it is used.
    add_library(libtorch::cuda INTERFACE IMPORTED)
    target_link_libraries(libtorch::cuda INTERFACE "-Wl,--no-as-needed" libtorch::torch_cuda libtorch::c10_cuda
                                                   "-Wl,--as-needed" libtorch::cpu)
    target_compile_definitions(libtorch::cuda INTERFACE USE_C10D_NCCL)
  endif()
endif()
