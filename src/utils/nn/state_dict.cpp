#include <c10/util/Exception.h>
#include <transformers/utils/nn/state_dict.h>

#include <sstream>

namespace transformers {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::ostringstream text;
  text << at::IntArrayRef(shape);
  return text.str();
}

IncompatibleKeys compare(const StateDict& own, const StateDict& given) {
  IncompatibleKeys keys;
  for (const auto& entry : own) {
    const auto* found = given.find(entry.key());
    if (found == nullptr) {
      keys.missing.push_back(entry.key());
    } else if (found->sizes() != entry.value().sizes()) {
      keys.mismatched.push_back({entry.key(), found->sizes().vec(), entry.value().sizes().vec()});
    }
  }
  for (const auto& entry : given) {
    if (!own.contains(entry.key())) {
      keys.unexpected.push_back(entry.key());
    }
  }
  return keys;
}

/// The module's own tensors, not detached, so that they can be assigned to.
StateDict own_tensors(const torch::nn::Module& module) {
  StateDict tensors;
  for (const auto& part : module.named_modules("", /*include_self=*/true)) {
    const std::string prefix = part.key().empty() ? "" : part.key() + ".";
    for (const auto& parameter : part.value()->named_parameters(/*recurse=*/false)) {
      tensors.insert(prefix + parameter.key(), parameter.value());
    }
    for (const auto& buffer : part.value()->named_buffers(/*recurse=*/false)) {
      tensors.insert(prefix + buffer.key(), buffer.value());
    }
  }
  return tensors;
}

}  // namespace

StateDict state_dict(const torch::nn::Module& module) {
  StateDict state;
  for (const auto& entry : own_tensors(module)) {
    state.insert(entry.key(), entry.value().detach());
  }
  return state;
}

std::string IncompatibleKeys::to_string() const {
  std::string text;
  const auto add = [&](const std::string& label, const std::string& names) {
    if (!names.empty()) {
      text += (text.empty() ? "" : "; ") + label + ": " + names;
    }
  };
  add("missing", joined(missing));
  add("unexpected", joined(unexpected));
  std::vector<std::string> shapes;
  shapes.reserve(mismatched.size());
  for (const auto& key : mismatched) {
    shapes.push_back(key.name + " (found " + shape_text(key.found) + ", expected " + shape_text(key.expected) + ")");
  }
  add("wrong shape", joined(shapes));
  return text;
}

IncompatibleKeys load_state_dict(torch::nn::Module& module, const StateDict& state, LoadStateDictOptions options) {
  auto own = own_tensors(module);
  auto keys = compare(own, state);
  TORCH_CHECK(keys.mismatched.empty() && (!options.strict || keys.empty()),
              "load_state_dict: the tensors do not fit the module; ", keys.to_string());
  const at::NoGradGuard no_grad;
  for (auto& entry : own) {
    const auto* value = state.find(entry.key());
    if (value == nullptr) {
      continue;
    }
    if (options.assign) {
      assign_tensor(entry.value(), *value);
    } else {
      TORCH_CHECK(!entry.value().is_meta(), "load_state_dict: ", entry.key(),
                  " is on the meta device and cannot be copied into; load with assign");
      entry.value().copy_(*value);
    }
  }
  return keys;
}

void assign_tensor(torch::Tensor& target, const torch::Tensor& value) {
  const bool requires_grad = target.requires_grad();
  target.unsafeGetTensorImpl()->shallow_copy_from(value.detach().getIntrusivePtr());
  target.mutable_grad().reset();
  target.requires_grad_(requires_grad);
}

}  // namespace transformers
