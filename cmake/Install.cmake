# SPDX-License-Identifier: Apache-2.0
# `cmake --install`: library, headers, and a CMake package with the target espalier::espalier.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/espalier)

install(TARGETS espalier EXPORT espalierTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
                                                        COMPONENT Development)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/espalier DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT Development FILES_MATCHING PATTERN "*.h" PATTERN "cli" EXCLUDE)
install(EXPORT espalierTargets NAMESPACE espalier:: DESTINATION ${package_dir}
        COMPONENT Development)
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/Config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/espalierConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/espalierConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/espalierConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/espalierConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/Deps.cmake
        DESTINATION ${package_dir} COMPONENT Development)
