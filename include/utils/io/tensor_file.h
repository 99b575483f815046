#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// What a file says about one of its tensors.
struct TensorInfo {
  std::string name;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<int64_t> shape;
  /// Bytes of its elements.
  int64_t bytes = 0;
};

/// A file of named tensors. Opening one reads and checks everything but the data; after that it may be used by several
/// threads at once.
///
/// The data stays in the file until it is used: tensors are views of a private mapping. Writing to one never changes
/// the file. Another program that cuts the file shorter in the meantime ends this one with SIGBUS; replacing the file
/// by another, as our own saving does, is harmless.
class TensorFile {
 public:
  virtual ~TensorFile() = default;

  virtual const std::string& path() const = 0;
  /// In the order of the data in the file.
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  /// Bytes of all data, with memory that several tensors share counted once.
  virtual int64_t bytes() const = 0;
  /// The tensor, on the CPU. No copy unless its data lies at an address that does not suit its dtype. Throws for a name
  /// the file does not hold.
  virtual at::Tensor tensor(const std::string& name) const = 0;
  /// Gives the memory that reading this tensor took back to the system, for a caller that has made its own copy: cast,
  /// packed, or moved to a device. The tensor stays usable and is read again when touched; values written into it are
  /// lost.
  virtual void drop_pages(const std::string& name) const = 0;
};

}  // namespace transformers
