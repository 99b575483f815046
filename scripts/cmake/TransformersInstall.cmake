include_guard()
# install(): the package libtransformers, relocatable, holding no path of this machine but the run path of the program.

include(CMakePackageConfigHelpers)
option(TRANSFORMERS_INSTALL "Generate the install target" ${PROJECT_IS_TOP_LEVEL})
if(NOT TRANSFORMERS_INSTALL)
  return()
endif()

set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/libtransformers")
set(package_build_folder "${PROJECT_BINARY_DIR}/package")

install(TARGETS libtransformers EXPORT libtransformersTargets
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
get_property(plugins GLOBAL PROPERTY TRANSFORMERS_PLUGINS)
install(TARGETS ${plugins} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/transformers"
        FILES_MATCHING PATTERN "*.h")
install(FILES "${PROJECT_BINARY_DIR}/generated/transformers/version.h"
        DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/transformers")
install(EXPORT libtransformersTargets NAMESPACE libtransformers:: DESTINATION "${package_folder}")

# A consumer links LibTorch itself, which the loader then has before it reaches our library; a program needs to be told.
if(TARGET transformers-cpp)
  set_target_properties(transformers-cpp PROPERTIES
                        INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};${LibTorch_LIBRARY_DIR}")
  install(TARGETS transformers-cpp RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()

string(REGEX MATCH "^[0-9]+\\.[0-9]+" LIBTRANSFORMERS_LIBTORCH_SERIES "${LibTorch_VERSION}")
set(LIBTRANSFORMERS_STATIC_LIBRARIES "")
if(NOT BUILD_SHARED_LIBS)
  get_property(LIBTRANSFORMERS_STATIC_LIBRARIES GLOBAL PROPERTY TRANSFORMERS_PRIVATE_LIBRARIES)
  list(REMOVE_DUPLICATES LIBTRANSFORMERS_STATIC_LIBRARIES)
endif()
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/libtransformersConfig.cmake.in"
                              "${package_build_folder}/libtransformersConfig.cmake"
                              INSTALL_DESTINATION "${package_folder}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${package_build_folder}/libtransformersConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${package_build_folder}/libtransformersConfig.cmake"
              "${package_build_folder}/libtransformersConfigVersion.cmake" "${CMAKE_CURRENT_LIST_DIR}/FindLibTorch.cmake"
        DESTINATION "${package_folder}")
