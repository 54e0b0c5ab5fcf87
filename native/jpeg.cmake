# libjpeg-turbo for native/image/jpegDecoder.cc. Without it the addon builds as well, and says so:
# JPEGs are then decoded by sharp.
#
#   MOCO_JPEG  auto (the static library where it can be part of an addon, else the shared one, else
#              none), static or shared (that one, or fail), off
#   JPEG_ROOT  (CMake or environment variable) or CMAKE_PREFIX_PATH: where it is installed
#
# Sets MOCO_JPEG_FOUND; then MOCO_JPEG_INCLUDE, MOCO_JPEG_LIBRARY and MOCO_JPEG_LINK_OPTIONS.
set(MOCO_JPEG auto CACHE STRING "libjpeg-turbo in the addon: auto, static, shared or off")
set(MOCO_JPEG_FOUND FALSE)
set(MOCO_JPEG_LINK_OPTIONS "")
set(JPEG_SOURCES jpegDecoder.cc jpegLibrary.cc orientation.cc convert.cc)
list(TRANSFORM JPEG_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/native/image/)

# Nothing is remembered from an earlier configuration: the library may have come or gone.
# Homebrew keeps it out of the way of Apple's own.
set(JPEG_HINTS ${JPEG_ROOT} $ENV{JPEG_ROOT} /opt/homebrew/opt/jpeg-turbo /usr/local/opt/jpeg-turbo)
find_path(MOCO_JPEG_INCLUDE jpeglib.h HINTS ${JPEG_HINTS} PATH_SUFFIXES include NO_CACHE)
set(STATIC_NAME ${CMAKE_STATIC_LIBRARY_PREFIX}jpeg${CMAKE_STATIC_LIBRARY_SUFFIX})
set(SHARED_NAME ${CMAKE_SHARED_LIBRARY_PREFIX}jpeg${CMAKE_SHARED_LIBRARY_SUFFIX})
find_library(JPEG_STATIC NAMES ${STATIC_NAME} jpeg-static.lib
  HINTS ${JPEG_HINTS} PATH_SUFFIXES lib NO_CACHE)
find_library(JPEG_SHARED NAMES ${SHARED_NAME} HINTS ${JPEG_HINTS} PATH_SUFFIXES lib NO_CACHE)

# Whether the decoder compiles with these headers (only libjpeg-turbo has all that it calls, and
# says its version) and links with this library into a shared object.
function(check_jpeg library options result)
  set(compiled FALSE)
  if(MOCO_JPEG_INCLUDE AND library)
    unset(JPEG_LINKS CACHE)
    try_compile(JPEG_LINKS ${CMAKE_BINARY_DIR}/jpegCheck SOURCES ${JPEG_SOURCES}
      CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${MOCO_JPEG_INCLUDE} -DCMAKE_POSITION_INDEPENDENT_CODE=ON
      COMPILE_DEFINITIONS -DMOCO_WITH_JPEG -fPIC
      LINK_OPTIONS -shared ${options}
      LINK_LIBRARIES ${library}
      CXX_STANDARD 17
      OUTPUT_VARIABLE output)
    set(compiled ${JPEG_LINKS})
    unset(JPEG_LINKS CACHE)
    if(NOT compiled)
      message(VERBOSE "${library} cannot be used:\n${output}")
    endif()
  endif()
  set(${result} ${compiled} PARENT_SCOPE)
endfunction()

# Other libraries in the process may bring a libjpeg of their own: this one stays private.
set(PRIVATE_SYMBOLS "")
set(ALL_DEFINED "")
if(UNIX AND NOT APPLE)
  set(PRIVATE_SYMBOLS -Wl,--exclude-libs,ALL)
  set(ALL_DEFINED -Wl,-z,defs)
endif()

if(NOT MOCO_JPEG MATCHES "^(auto|static|shared|off)$")
  message(FATAL_ERROR "MOCO_JPEG is ${MOCO_JPEG}; it can be auto, static, shared or off")
endif()
if(MOCO_JPEG MATCHES "auto|static")
  check_jpeg("${JPEG_STATIC}" "${PRIVATE_SYMBOLS};${ALL_DEFINED}" MOCO_JPEG_FOUND)
  if(MOCO_JPEG_FOUND)
    set(MOCO_JPEG_LIBRARY ${JPEG_STATIC})
    set(MOCO_JPEG_LINK_OPTIONS ${PRIVATE_SYMBOLS})
  endif()
endif()
if(NOT MOCO_JPEG_FOUND AND MOCO_JPEG MATCHES "auto|shared")
  check_jpeg("${JPEG_SHARED}" "${ALL_DEFINED}" MOCO_JPEG_FOUND)
  if(MOCO_JPEG_FOUND)
    set(MOCO_JPEG_LIBRARY ${JPEG_SHARED})
    get_filename_component(folder ${JPEG_SHARED} DIRECTORY)
    # One that the system's loader would not find by itself.
    if(UNIX AND NOT folder IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
      set(MOCO_JPEG_LINK_OPTIONS -Wl,-rpath,${folder})
    endif()
  endif()
endif()

if(MOCO_JPEG_FOUND)
  message(STATUS "JPEG: ${MOCO_JPEG_LIBRARY}")
elseif(MOCO_JPEG MATCHES "static|shared")
  message(FATAL_ERROR "No ${MOCO_JPEG} libjpeg-turbo that can be part of the addon was found; "
    "set JPEG_ROOT to where it is installed")
else()
  message(STATUS "JPEG: no libjpeg-turbo in the addon; sharp decodes JPEGs")
endif()
