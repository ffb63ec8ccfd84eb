# find_package(pagetie) defines two targets:
#
#   pagetie::pagetie   the shared library
#   pagetie::static    the static library, with the system libraries that it needs
#
# Installed to <prefix>/share/pagetie/cmake, and goes by that: the whole prefix may be moved.

get_filename_component(_pagetie_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

find_path(_pagetie_include pagetie.h
  PATHS "${_pagetie_prefix}/include" NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
foreach(_pagetie_kind IN ITEMS so a)
  find_file(_pagetie_${_pagetie_kind} libpagetie.${_pagetie_kind}
    PATHS "${_pagetie_prefix}"
    PATH_SUFFIXES "lib/${CMAKE_LIBRARY_ARCHITECTURE}" lib64 lib
    NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
endforeach()

if(NOT _pagetie_include OR NOT (_pagetie_so OR _pagetie_a))
  set(pagetie_FOUND FALSE)
  set(pagetie_NOT_FOUND_MESSAGE "no pagetie.h, or no libpagetie, in ${_pagetie_prefix}")
endif()

if(_pagetie_include AND _pagetie_so AND NOT TARGET pagetie::pagetie)
  add_library(pagetie::pagetie SHARED IMPORTED)
  set_target_properties(pagetie::pagetie PROPERTIES
    IMPORTED_LOCATION "${_pagetie_so}"
    INTERFACE_INCLUDE_DIRECTORIES "${_pagetie_include}")
endif()

if(_pagetie_include AND _pagetie_a AND NOT TARGET pagetie::static)
  add_library(pagetie::static STATIC IMPORTED)
  set_target_properties(pagetie::static PROPERTIES
    IMPORTED_LOCATION "${_pagetie_a}"
    IMPORTED_LINK_INTERFACE_LANGUAGES C
    INTERFACE_INCLUDE_DIRECTORIES "${_pagetie_include}"
    INTERFACE_LINK_LIBRARIES "gcc_s;util;rt;pthread;m;dl;c")
endif()

unset(_pagetie_include CACHE)
unset(_pagetie_so CACHE)
unset(_pagetie_a CACHE)
unset(_pagetie_kind)
unset(_pagetie_prefix)
