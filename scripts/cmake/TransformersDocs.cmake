include_guard()
# `cmake --build <build> --target docs`: API pages of the public headers with the project's Markdown pages, in <build>/docs/html.
# Not part of `all`, nothing is installed; a wrong comment in a public header is an error.

find_package(Doxygen QUIET)
transformers_say("Doxygen, for the target docs" "${DOXYGEN_EXECUTABLE}")
if(NOT DOXYGEN_FOUND)
  return()
endif()

configure_file("${PROJECT_SOURCE_DIR}/docs/Doxyfile.in" "${PROJECT_BINARY_DIR}/docs/Doxyfile" @ONLY)
add_custom_target(docs COMMAND Doxygen::doxygen "${PROJECT_BINARY_DIR}/docs/Doxyfile"
                  WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" COMMENT "API pages in ${PROJECT_BINARY_DIR}/docs/html" VERBATIM)
