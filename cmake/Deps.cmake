# SPDX-License-Identifier: Apache-2.0
# Every dependency is a Debian 12 package; configuring never touches the network.
find_package(OpenMP REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)

find_path(DNNL_INCLUDE_DIR dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(espalier_dnnl INTERFACE)
target_include_directories(espalier_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(espalier_dnnl INTERFACE ${DNNL_LIBRARY})

# LLVM is reached through one shared library; its headers stay inside backend/cpu/jit.
find_path(LLVM_INCLUDE_DIR llvm/IR/IRBuilder.h PATHS /usr/lib/llvm-19/include NO_DEFAULT_PATH REQUIRED)
find_library(LLVM_LIBRARY NAMES LLVM-19 LLVM PATHS /usr/lib/llvm-19/lib NO_DEFAULT_PATH REQUIRED)
add_library(espalier_llvm INTERFACE)
target_include_directories(espalier_llvm SYSTEM INTERFACE ${LLVM_INCLUDE_DIR})
target_link_libraries(espalier_llvm INTERFACE ${LLVM_LIBRARY})
