#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {

/// A value of a restricted pickle. Which members mean something depends on the kind. Kept small: a short pickle may
/// hold very many.
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

/// What a kind is called in messages.
std::string_view kind_name(const PickleValue& value);

/// Reads a pickle of protocol 2 as `torch.save` writes it, executing nothing: globals, reductions and persistent ids
/// are known one by one, and any other is an error that says so. The values live in this object, which never recurses;
/// their texts are pieces of `bytes`.
class Pickle {
 public:
  Pickle(std::string_view bytes, const std::string& source);

  const PickleValue& root() const { return *root_; }

 private:
  std::deque<PickleValue> values_;
  const PickleValue* root_ = nullptr;
};

}  // namespace transformers
