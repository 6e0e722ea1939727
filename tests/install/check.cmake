# SPDX-License-Identifier: Apache-2.0
# Installs the build into a temporary folder and builds README.md's program against the installed
# package; it returns 0 when it has learned what it shows.
# cmake -DBUILD=<build folder> -DSOURCE=<tests/install> -DCXX=<compiler> -P check.cmake
set(work ${BUILD}/install_test)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "failed (${result}): ${ARGN}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE}/consumer -B ${work}/build -G Ninja -DCMAKE_BUILD_TYPE=Release
    -DPROGRAM=${SOURCE}/../../examples/01_own_model.cpp
    -DCMAKE_PREFIX_PATH=${work}/prefix -DCMAKE_CXX_COMPILER=${CXX})
run(${CMAKE_COMMAND} --build ${work}/build)
run(${work}/build/consumer)
