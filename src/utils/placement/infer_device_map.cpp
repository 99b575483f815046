// Mirrors get_balanced_memory and infer_auto_device_map of integrations/accelerate.py, transformers 5.23.0; the latter
// gives what accelerate 1.15's does.
#include <c10/util/Exception.h>
#include <transformers/utils/placement/device_map.h>

#include <algorithm>
#include <limits>
#include <set>

namespace transformers {
namespace {

using Names = std::vector<std::string>;

std::string joined(const std::string& parent, const std::string& name) {
  return parent.empty() ? name : parent + "." + name;
}

bool is_within(const std::string& module, const std::string& name) { return name.starts_with(module + "."); }

int64_t own_bytes(const ModuleSizes& module) {
  int64_t bytes = module.buffer_bytes;
  for (const auto& [name, size] : module.parameters) {
    bytes += size;
  }
  return bytes;
}

int64_t total_bytes(const ModuleSizes& module) {
  int64_t bytes = own_bytes(module);
  for (const auto& child : module.children) {
    bytes += total_bytes(child);
  }
  return bytes;
}

bool is_whole(const ModuleSizes& module, const Names& no_split) {
  return module.children.empty() || std::find(no_split.begin(), no_split.end(), module.class_name) != no_split.end();
}

/// The largest among the modules that have tensors of their own and the modules that are not split.
int64_t largest_part(const ModuleSizes& module, const Names& no_split) {
  const bool stays_whole = std::find(no_split.begin(), no_split.end(), module.class_name) != no_split.end();
  auto largest = std::max(own_bytes(module), stays_whole ? total_bytes(module) : 0);
  for (const auto& child : module.children) {
    largest = std::max(largest, largest_part(child, no_split));
  }
  return largest;
}

/// A module, or a parameter of a module that was split, that has no place yet.
struct Entry {
  std::string name{};
  int64_t bytes = 0;
  const ModuleSizes* module = nullptr;  // null for a parameter
};

std::vector<Entry> parts_of(const ModuleSizes& module, const std::string& name) {
  std::vector<Entry> parts;
  for (const auto& [parameter, bytes] : module.parameters) {
    parts.push_back({joined(name, parameter), bytes, nullptr});
  }
  for (const auto& child : module.children) {
    parts.push_back({joined(name, child.name), total_bytes(child), &child});
  }
  return parts;
}

/// The size that must be kept free on a place for the largest layer that is moved there for a while.
class LargestLayer {
 public:
  explicit LargestLayer(const Names& no_split) : no_split_(no_split) {}

  void find(const std::vector<Entry>& entries, bool with_parameters) {
    bytes_ = 0;
    names_.clear();
    for (const auto& entry : entries) {
      if (entry.module != nullptr) {
        visit(*entry.module, entry.name);
      } else if (with_parameters) {
        note(entry.name, entry.bytes);
      }
    }
  }

  /// Forgets the layers of an entry that was placed; the next largest layer is searched for among the waiting entries.
  void leave(const std::string& placed, const std::vector<Entry>& waiting) {
    std::erase_if(names_, [&](const std::string& held) { return held == placed || is_within(placed, held); });
    if (names_.empty()) {
      find(waiting, /*with_parameters=*/false);
    }
  }

  int64_t bytes() const { return bytes_; }

 private:
  void visit(const ModuleSizes& module, const std::string& name) {
    if (is_whole(module, no_split_)) {
      note(name, total_bytes(module));
      return;
    }
    for (const auto& child : module.children) {
      visit(child, joined(name, child.name));
    }
  }

  void note(const std::string& name, int64_t bytes) {
    if (bytes > bytes_) {
      bytes_ = bytes;
      names_.clear();
    }
    if (bytes == bytes_) {
      names_.push_back(name);
    }
  }

  const Names& no_split_;
  int64_t bytes_ = 0;
  Names names_;
};

/// Assigns entries to places, filling one place after the other.
class Distribution {
 public:
  Distribution(const ModuleSizes& model, const MaxMemory& max_memory, const Names& no_split,
               const std::vector<Names>& tied)
      : waiting_(parts_of(model, "")), no_split_(no_split), tied_(tied), largest_(no_split) {
    for (const auto& [place, bytes] : max_memory) {
      if (!place.is_disk()) {
        limits_.emplace_back(place, bytes);
      }
    }
    limits_.emplace_back("disk", std::numeric_limits<int64_t>::max());
    largest_.find(waiting_, /*with_parameters=*/true);
  }

  DeviceMap run() {
    while (!waiting_.empty()) {
      const auto entry = waiting_.front();
      waiting_.erase(waiting_.begin());
      largest_.leave(entry.name, waiting_);
      if (!place(entry) && !split(entry)) {
        waiting_.insert(waiting_.begin(), entry);
        ++current_;
        used_ = 0;
      }
    }
    return std::move(map_);
  }

 private:
  /// The first accelerator and the CPU keep room for layers that are moved there because no other place had room.
  int64_t room() const {
    const auto& [place, limit] = limits_[current_];
    const bool takes_layers = place.is_cpu() || (current_ == 0 && place.is_accelerator());
    return limit - (takes_layers ? largest_.bytes() : 0) - used_;
  }

  /// Positions in `waiting_` of the modules that share a parameter with the entry.
  std::vector<size_t> partners(const Entry& entry) const {
    std::vector<size_t> found;
    for (const auto& group : tied_) {
      const auto is_inside = [&](const std::string& name) { return is_within(entry.name, name + "."); };
      if (std::none_of(group.begin(), group.end(), is_inside)) {
        continue;
      }
      for (const auto& name : group) {
        const auto holder = std::find_if(waiting_.begin(), waiting_.end(),
                                         [&](const Entry& other) { return is_within(other.name, name); });
        const auto position = static_cast<size_t>(holder - waiting_.begin());
        if (!is_inside(name) && holder != waiting_.end() &&
            std::find(found.begin(), found.end(), position) == found.end()) {
          found.push_back(position);
        }
      }
    }
    return found;
  }

  bool place(const Entry& entry) {
    auto together = partners(entry);
    auto bytes = entry.bytes;
    for (const auto position : together) {
      bytes += waiting_[position].bytes;
    }
    if (bytes > room()) {
      return false;
    }
    used_ += bytes;
    const auto& target = limits_[current_].first;
    map_.insert_or_assign(entry.name, target);
    std::sort(together.rbegin(), together.rend());
    for (const auto position : together) {
      map_.insert_or_assign(waiting_[position].name, target);
      waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(position));
    }
    return true;
  }

  /// Splits a partner that does not fit beside the entry, and otherwise the entry itself.
  bool split(const Entry& entry) {
    if (entry.bytes <= room()) {
      for (const auto position : partners(entry)) {
        const auto partner = waiting_[position];
        if (can_split(partner)) {
          replace(position, parts_of(*partner.module, partner.name));
          waiting_.insert(waiting_.begin(), entry);
          largest_.find(waiting_, /*with_parameters=*/false);
          return true;
        }
      }
    }
    if (!can_split(entry)) {
      return false;
    }
    const auto parts = parts_of(*entry.module, entry.name);
    waiting_.insert(waiting_.begin(), parts.begin(), parts.end());
    largest_.find(waiting_, /*with_parameters=*/false);
    return true;
  }

  bool can_split(const Entry& entry) const { return entry.module != nullptr && !is_whole(*entry.module, no_split_); }

  void replace(size_t position, const std::vector<Entry>& parts) {
    const auto at = waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(position));
    waiting_.insert(at, parts.begin(), parts.end());
  }

  std::vector<Entry> waiting_;
  const Names& no_split_;
  const std::vector<Names>& tied_;
  LargestLayer largest_;
  std::vector<std::pair<Place, int64_t>> limits_;
  size_t current_ = 0;
  int64_t used_ = 0;
  DeviceMap map_;
};

/// Joins the entries of a module to one if all its parts are in one place.
void unite(DeviceMap& map, const std::string& module) {
  std::vector<std::string> inside;
  std::set<Place> places;
  std::set<std::string> children;
  for (const auto& [name, place] : map) {
    if (module.empty() || is_within(module, name)) {
      inside.push_back(name);
      places.insert(place);
      children.insert(name.substr(0, name.find('.', module.empty() ? 0 : module.size() + 1)));
    }
  }
  if (places.size() == 1 && inside.size() > 1) {
    for (const auto& name : inside) {
      map.erase(name);
    }
    map.insert_or_assign(module, *places.begin());
    return;
  }
  for (const auto& child : children) {
    unite(map, child);
  }
}

}  // namespace

MaxMemory get_balanced_memory(const ModuleSizes& model, MaxMemory max_memory, const Names& no_split_module_classes,
                              bool low_zero) {
  std::vector<Place> gpus;
  for (const auto& [place, bytes] : max_memory) {
    if (place.is_accelerator() && bytes > 0) {
      gpus.push_back(place);
    }
  }
  if (gpus.empty()) {
    return max_memory;
  }
  low_zero = low_zero && gpus.size() > 1;
  const auto total = total_bytes(model);
  const auto sharing = static_cast<int64_t>(gpus.size()) - (low_zero ? 1 : 0);
  // The shares cannot be exact: each GPU gets room for one more of the largest parts, and the last GPU takes the rest.
  const auto share =
      total / sharing + static_cast<int64_t>(1.25 * static_cast<double>(largest_part(model, no_split_module_classes)));
  for (size_t i = low_zero ? 1 : 0; i + 1 < gpus.size(); ++i) {
    max_memory.at(gpus[i]) = std::min(share, max_memory.at(gpus[i]));
  }
  if (low_zero) {
    int64_t others = 0;
    for (size_t i = 1; i < gpus.size(); ++i) {
      others += max_memory.at(gpus[i]);
    }
    max_memory.at(gpus[0]) = std::min(std::max<int64_t>(0, total - others), max_memory.at(gpus[0]));
  }
  return max_memory;
}

DeviceMap infer_auto_device_map(const ModuleSizes& model, const MaxMemory& max_memory,
                                const Names& no_split_module_classes, const std::vector<Names>& tied_parameters) {
  auto map = Distribution(model, max_memory, no_split_module_classes, tied_parameters).run();
  unite(map, "");
  return map;
}

DeviceMap infer_auto_device_map(const ModuleSizes& model, const std::string& strategy,
                                const std::optional<MaxMemory>& max_memory, const Names& no_split_module_classes,
                                const std::vector<Names>& tied_parameters) {
  auto limits = max_memory ? *max_memory : get_max_memory();
  const bool one_gpu =
      std::count_if(limits.begin(), limits.end(), [](const auto& limit) { return limit.first.is_accelerator(); }) == 1;
  if (strategy != "sequential") {
    if (!max_memory && one_gpu) {
      limits.begin()->second = limits.begin()->second / 10 * 9;  // room for what a forward needs
    }
    limits = get_balanced_memory(model, std::move(limits), no_split_module_classes, strategy == "balanced_low_0");
  }
  return infer_auto_device_map(model, limits, no_split_module_classes, tied_parameters);
}

}  // namespace transformers
