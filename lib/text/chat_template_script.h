// The text of chat_template.py, which CMake puts into the program so that it needs no file beside it.
#pragma once

namespace nemo {

extern const char kChatTemplateScript[];

}  // namespace nemo
