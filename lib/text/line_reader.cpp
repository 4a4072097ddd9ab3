#include "lib/text/line_reader.h"

#include <zlib.h>

#include <cerrno>
#include <cstring>

#include "kernels/error.h"

namespace nemo {
namespace {

constexpr size_t kPieceBytes = 256 << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

struct CloseGz {
  void operator()(gzFile_s* file) const { gzclose(file); }
};

}  // namespace

struct FileLineReader::Parts {
  std::vector<std::string> files;
  size_t file_idx = 0;
  std::unique_ptr<gzFile_s, CloseGz> file;  // reads plain files as they are
  int64_t line_number = 0;
  std::string piece = std::string(kPieceBytes, '\0');
  size_t piece_at = 0;
  size_t piece_end = 0;
  std::string line;

  void open();
  bool refill();
  bool read_line(bool& is_too_long);
};

void FileLineReader::Parts::open() {
  const std::string& path = files[file_idx];
  errno = 0;
  file.reset(gzopen(path.c_str(), "rb"));
  if (!file) {
    throw Error(path, std::string("cannot be opened: ") + std::strerror(errno == 0 ? ENOMEM : errno),
                "check the path and its permissions");
  }
  gzbuffer(file.get(), kPieceBytes);
  line_number = 0;
}

// False at the end of the file.
bool FileLineReader::Parts::refill() {
  const int count = gzread(file.get(), piece.data(), static_cast<unsigned>(piece.size()));
  int code = Z_OK;
  const char* message = gzerror(file.get(), &code);
  if (count < 0 || code == Z_BUF_ERROR) {
    const std::string why = code == Z_ERRNO ? std::strerror(errno) : message;
    throw Error(files[file_idx], "cannot be read on behind line " + std::to_string(line_number) + ": " + why,
                "the file is damaged or was not copied whole; replace it and start the job again");
  }
  piece_at = 0;
  piece_end = static_cast<size_t>(count);
  return count > 0;
}

// False at the end of the file, if there is no last line without an end.
bool FileLineReader::Parts::read_line(bool& is_too_long) {
  line.clear();
  is_too_long = false;
  bool any = false;
  while (piece_at < piece_end || refill()) {
    any = true;
    const char* begin = piece.data() + piece_at;
    const size_t available = piece_end - piece_at;
    const auto* end = static_cast<const char*>(std::memchr(begin, '\n', available));
    const size_t count = end == nullptr ? available : static_cast<size_t>(end - begin);
    if (line.size() + count > kMaxLineBytes) is_too_long = true;
    if (is_too_long) {
      line.clear();  // the rest is read past, not kept
    } else {
      line.append(begin, count);
    }
    piece_at += count + (end == nullptr ? 0 : 1);
    if (end != nullptr) break;
  }
  return any;
}

FileLineReader::FileLineReader(std::vector<std::string> files) : parts_(std::make_unique<Parts>()) {
  parts_->files = std::move(files);
}
FileLineReader::FileLineReader(FileLineReader&&) noexcept = default;
FileLineReader& FileLineReader::operator=(FileLineReader&&) noexcept = default;
FileLineReader::~FileLineReader() = default;

const std::vector<std::string>& FileLineReader::files() const {
  return parts_->files;
}

std::optional<FileLineReader::Line> FileLineReader::next() {
  Parts& parts = *parts_;
  for (; parts.file_idx < parts.files.size(); ++parts.file_idx) {
    if (!parts.file) parts.open();
    bool is_too_long = false;
    if (parts.read_line(is_too_long)) {
      std::string_view text = parts.line;
      if (++parts.line_number == 1 && text.starts_with(kByteOrderMark))
        text.remove_prefix(kByteOrderMark.size());
      if (text.ends_with('\r')) text.remove_suffix(1);
      return Line{text, parts.files[parts.file_idx], parts.line_number, is_too_long};
    }
    parts.file.reset();
  }
  return std::nullopt;
}

}  // namespace nemo
