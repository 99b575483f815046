#pragma once

/// \file
/// The room utils/files opens the files of a model folder safely and replaces them atomically. It deals in bytes and
/// JSON; tensors are read and written in utils/io.

#include <transformers/export.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace TRANSFORMERS_API transformers {

struct FolderContents;

/// A folder with a model, its tokenizer or an adapter. What loads one takes a `ModelFolder`, to which a path converts;
/// several things that are loaded through the same object open and parse what they share, config.json say, once:
///
///     const ModelFolder folder("llama-2-7b");
///     folder.read_one_save([&] {
///       tokenizer = load_tokenizer(folder);
///       model = AutoModelForCausalLM::from_pretrained(folder);
///     });
///
/// Copies share what was read. Nothing is opened before it is asked for. An object is used by one thread at a time.
class ModelFolder {
 public:
  ModelFolder(std::string path);  // NOLINT(google-explicit-constructor): a path is a folder
  ModelFolder(const char* path) : ModelFolder(std::string(path)) {}               // NOLINT
  ModelFolder(const std::filesystem::path& path) : ModelFolder(path.string()) {}  // NOLINT

  const std::string& path() const { return path_; }
  /// The path of a file of the folder.
  std::string file(const std::string& name) const;
  /// Whether the folder has such a file, once a save that is being carried out is done.
  bool contains(const std::string& name) const;

  /// Calls `read`, which opens files of the folder through this library, again for as long as a save changes the folder
  /// meanwhile. Afterwards all that it opened comes from one save. Finishes first what a save that died left to do.
  /// Within `read` further calls for the same object just call. What loads several things of a folder that may be saved
  /// into at the same time goes through it, as above; what is loaded alone does so by itself.
  void read_one_save(const std::function<void()>& read) const;

  /// For the library: the files that were parsed.
  FolderContents& contents() const { return *contents_; }

 private:
  std::string path_;
  std::shared_ptr<FolderContents> contents_;
};

}  // namespace transformers
