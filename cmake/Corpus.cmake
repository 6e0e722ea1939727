# SPDX-License-Identifier: Apache-2.0
# espalier_embed_corpus(SOURCE): packs the project's sources and documents, in the order of their
# paths, into one file that SOURCE (train/corpus.cpp) places in its read-only data. Packed when the
# build is configured, so that editing a file does not relink every program.
function(espalier_embed_corpus source)
  set(paths "")
  foreach(folder src tests docs tools bench cmake)
    file(GLOB_RECURSE found RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/${folder}/*)
    list(APPEND paths ${found})
  endforeach()
  file(GLOB found RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/*.md
       ${PROJECT_SOURCE_DIR}/CMakeLists.txt)
  list(APPEND paths ${found})
  # Text only: sources, documents and scripts. Test data and build output stay out.
  list(FILTER paths EXCLUDE REGEX "(safetensors|json|bin|pyc|png)$|/(data|goldens|corpus|__pycache__)/")
  list(SORT paths)

  set(packed ${PROJECT_BINARY_DIR}/corpus.txt)
  file(WRITE ${packed}.new "")
  foreach(path IN LISTS paths)
    file(READ ${PROJECT_SOURCE_DIR}/${path} text)
    file(APPEND ${packed}.new "${text}\n")
  endforeach()
  file(COPY_FILE ${packed}.new ${packed} ONLY_IF_DIFFERENT)
  set_source_files_properties(
    ${source} TARGET_DIRECTORY espalier_train
    PROPERTIES OBJECT_DEPENDS ${packed} COMPILE_DEFINITIONS ESPALIER_CORPUS="${packed}")
endfunction()
