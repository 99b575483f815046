#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {

/// A value of a restricted pickle. The kind determines which members are used. The struct is small because even a short
/// pickle may hold very many values.
struct PickleValue {
  enum class Kind { kNone, kBool, kInteger, kFloat, kText, kTuple, kList, kDict, kGlobal, kStorage, kTensor };

  struct Layout {
    std::vector<int64_t> sizes, strides;
  };

  Kind kind = Kind::kNone;
  c10::ScalarType dtype = c10::ScalarType::Undefined;  // kTensor; kStorage, undefined when it has none
  int64_t integer = 0;                    // kBool, kInteger; kStorage: its bytes; kTensor: offset in elements
  std::string_view text;                  // kText; kGlobal: "module name"; kStorage: its key
  std::vector<const PickleValue*> items;  // kTuple, kList; kDict: key, value, key, ...; kTensor: storage
  std::shared_ptr<const Layout> layout;   // kTensor
};

/// The name of the value's kind in messages.
std::string_view kind_name(const PickleValue& value);

/// Reads a pickle of protocol 2 as `torch.save` writes it, without executing anything: only listed globals, reductions
/// and persistent ids are accepted, and any other is an error that names it. This object owns the values, whose texts
/// are pieces of `bytes`; its functions never recurse.
class Pickle {
 public:
  Pickle(std::string_view bytes, const std::string& source);

  const PickleValue& root() const { return *root_; }

 private:
  std::deque<PickleValue> values_;
  const PickleValue* root_ = nullptr;
};

}  // namespace transformers
