# `cmake --install`: the program, and the library as a package: find_package(nemo-dist) gives nemo::nemo and nemo::kernels.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# Headers keep the paths they have here, under a folder of their own: #include "lib/model/generator.h".
set(package_headers ${CMAKE_INSTALL_INCLUDEDIR}/nemo-dist)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/nemo-dist)
function(nemo_install_library library folder name)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.h)
  target_sources(${library} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${headers})
  set_target_properties(${library} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS ${library} EXPORT nemo-dist FILE_SET HEADERS DESTINATION ${package_headers})
endfunction()

nemo_install_library(nemo_kernels kernels kernels)
nemo_install_library(nemo lib nemo)
if(TARGET nemo-dist)
  install(TARGETS nemo-dist)
endif()

install(EXPORT nemo-dist NAMESPACE nemo:: DESTINATION ${package_folder} FILE nemo-dist-targets.cmake)
configure_package_config_file(cmake/nemo-dist-config.cmake.in nemo-dist-config.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(nemo-dist-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/nemo-dist-config.cmake ${PROJECT_BINARY_DIR}/nemo-dist-config-version.cmake
        DESTINATION ${package_folder})
