// Runs another program and waits.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace tenfold::cli {

struct ProcessResult {
  int status = 0;          ///< exit status; 128 + n if a signal ended it
  std::string error_text;  ///< the last part of what it wrote to stderr
};
/// Found through PATH, no shell in between, stdout thrown away. nullopt if the program cannot be started.
std::optional<ProcessResult> run_process(const std::vector<std::string>& arguments);

/// A folder in $TMPDIR that disappears with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace tenfold::cli
