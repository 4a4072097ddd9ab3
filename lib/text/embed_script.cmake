# Makes a source file of chat_template.py, so that the program needs no file beside it.
function(nemo_embed_chat_template target)
  set(folder ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${folder}/chat_template.py)
  file(READ ${folder}/chat_template.py NEMO_CHAT_TEMPLATE_PY)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/chat_template_script.cpp)
  configure_file(${folder}/chat_template_script.cpp.in ${source} @ONLY)
  target_sources(${target} PRIVATE ${source})
endfunction()
