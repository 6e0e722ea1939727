# SPDX-License-Identifier: Apache-2.0
# espalier_layer(NAME [DEPS targets...]): one folder of src/espalier/ as an object library.
# Every source in the folder belongs to it; the includes are checked by the test `layers`.
add_library(espalier_flags INTERFACE)
target_compile_features(espalier_flags INTERFACE cxx_std_20)
target_include_directories(espalier_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>)
target_compile_options(espalier_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers)
if(ESPALIER_SANITIZE)
  # A finding ends the program, so that the test fails.
  target_compile_options(espalier_flags INTERFACE -fsanitize=${ESPALIER_SANITIZE}
                                                  -fno-sanitize-recover=all
                                                  -fno-omit-frame-pointer)
  target_link_options(espalier_flags INTERFACE -fsanitize=${ESPALIER_SANITIZE})
endif()
if(ESPALIER_FUZZ)
  target_compile_options(espalier_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined
                                                  -fno-sanitize-recover=all)
  target_link_options(espalier_flags INTERFACE -fsanitize=address,undefined)
endif()

include(Precompiled)
espalier_precompiled(espalier_precompiled_std)
espalier_precompiled(espalier_precompiled_json <espalier/io/json.h> LINK
                     nlohmann_json::nlohmann_json)
set_target_properties(espalier_precompiled_std espalier_precompiled_json
                      PROPERTIES POSITION_INDEPENDENT_CODE ON)

function(espalier_layer name)
  cmake_parse_arguments(arg "" "" "DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/espalier/${name}/*.cpp)
  if(NOT sources)
    return()
  endif()
  # Vector kernels: the file name says which processor they are for. Always optimized, so that
  # debug builds stay usable.
  set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl)
  foreach(source IN LISTS sources)
    if(source MATCHES "_avx2\\.cpp$")
      espalier_source_options(${source} -O3 -mavx2 -mfma -mf16c)
    elseif(source MATCHES "_avx512\\.cpp$")
      espalier_source_options(${source} -O3 ${avx512} -mfma -mf16c)
    elseif(source MATCHES "_avx512_bf16\\.cpp$")
      espalier_source_options(${source} -O3 ${avx512} -mavx512bf16 -mfma -mf16c)
    endif()
  endforeach()
  add_library(espalier_${name} OBJECT ${sources})
  set_target_properties(espalier_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(espalier_${name} PUBLIC espalier_flags fmt::fmt OpenMP::OpenMP_CXX
                                                Threads::Threads ${arg_DEPS})
  if("nlohmann_json::nlohmann_json" IN_LIST arg_DEPS)
    target_precompile_headers(espalier_${name} REUSE_FROM espalier_precompiled_json)
  else()
    target_precompile_headers(espalier_${name} REUSE_FROM espalier_precompiled_std)
  endif()
  target_sources(espalier PRIVATE $<TARGET_OBJECTS:espalier_${name}>)
  target_link_libraries(espalier PUBLIC fmt::fmt OpenMP::OpenMP_CXX Threads::Threads
                                 PRIVATE ${arg_DEPS})
endfunction()
