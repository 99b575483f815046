#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {

class PendingFile;

/// Takes the bytes of a file piece by piece.
using ByteSink = std::function<void(std::string_view bytes)>;

/// Replaces files of a folder together. Everything is first written under temporary names; commit() then carries out
/// the renames in the order of the calls and the removals after them, each step on the disk before the next begins.
/// Until commit() nothing that was there is touched, and an error or a crash leaves it so; the temporaries are removed,
/// after a crash by the next transaction in the folder. Call write() last for what makes the rest count: an index,
/// config.json.
///
///     SaveTransaction save("out");
///     add_checkpoint(save, state_dict(*model));
///     save.write("config.json", text);
///     save.commit();
///
/// Every function throws c10::Error naming the file and what the system said.
class SaveTransaction {
 public:
  /// Creates the folder when it is missing and its parent is not. Throws while another process saves into it.
  explicit SaveTransaction(const std::string& folder);
  ~SaveTransaction();
  SaveTransaction(const SaveTransaction&) = delete;
  SaveTransaction& operator=(const SaveTransaction&) = delete;

  const std::string& folder() const { return folder_; }

  /// `name` is a plain file name; a file or link of that name will be replaced.
  void write(const std::string& name, std::string_view bytes);
  void write(const std::string& name, const std::function<void(const ByteSink&)>& produce);
  /// Gives a file of the folder a second name.
  void link(const std::string& name, const std::string& second_name);
  /// Removes a file at the end; that it is missing is no error.
  void remove(const std::string& name);

  void commit();

 private:
  std::string path(const std::string& name) const;
  void lock();
  void remove_leftovers() const;

  std::string folder_;
  bool created_ = false;
  bool committed_ = false;
  int lock_ = -1;
  std::vector<std::unique_ptr<PendingFile>> pending_;
  std::vector<std::function<void()>> steps_, removals_;
};

}  // namespace transformers
