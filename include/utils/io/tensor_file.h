#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// The description of one tensor in a file.
struct TensorInfo {
  std::string name;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<int64_t> shape;
  /// Bytes of its elements.
  int64_t bytes = 0;
};

/// A file of named tensors. Opening it reads and checks everything but the data; afterwards several threads may use it
/// concurrently.
///
/// The data stays in the file until it is used: tensors are views of a private mapping, so writing to them never
/// changes the file. If another program truncates the file meanwhile, this process ends with SIGBUS; replacing the file
/// by another, as this library's saves do, is harmless.
class TensorFile {
 public:
  virtual ~TensorFile() = default;

  virtual const std::string& path() const = 0;
  /// In the order of the data in the file.
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  /// Bytes of all data; memory that several tensors share counts once.
  virtual int64_t bytes() const = 0;
  /// The tensor, on the CPU. It is copied only if its data is not aligned for its dtype. Throws on a name that the file
  /// does not hold.
  virtual at::Tensor tensor(const std::string& name) const = 0;
  /// Returns the memory that reading this tensor took to the system, for callers that have made a copy of their own
  /// (cast, packed, or moved to a device). The tensor stays usable and is read again on access; values written to it
  /// are lost.
  virtual void drop_pages(const std::string& name) const = 0;
};

}  // namespace transformers
