#include "utils/tokenization/sentencepiece_library.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <filesystem>

namespace transformers::tokenization {
namespace {

constexpr const char* kPlugIn = "libtransformers_sentencepiece.so";

#if defined(__has_feature)  // Clang
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TRANSFORMERS_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TRANSFORMERS_SANITIZED
#endif

// The sanitizers refuse deep binding, since it hides their own functions; without it the symbols clash.
#ifdef TRANSFORMERS_SANITIZED
constexpr int kLoading = RTLD_NOW | RTLD_LOCAL;
#else
constexpr int kLoading = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif

/// The plug-in is in the folder of the library; a program that contains the library itself may also find it on its
/// search path.
void* open_plug_in() {
  Dl_info info{};
  dladdr(reinterpret_cast<const void*>(&make_sentencepiece_processor), &info);
  const auto beside = std::filesystem::path(info.dli_fname).parent_path() / kPlugIn;
  auto* const library = dlopen(beside.c_str(), kLoading);
  return library != nullptr ? library : dlopen(kPlugIn, kLoading);
}

using Make = SentencePieceProcessor* (*)();

Make loaded_plug_in() {
  auto* const library = open_plug_in();
  TORCH_CHECK(library != nullptr, "reading a tokenizer.model needs ", kPlugIn,
              ", which could not be loaded: ", dlerror());
  auto* const function = dlsym(library, "transformers_make_sentencepiece_processor");
  TORCH_CHECK(function != nullptr, kPlugIn, " is not of this version of the library: ", dlerror());
  return reinterpret_cast<Make>(function);
}

}  // namespace

std::unique_ptr<SentencePieceProcessor> make_sentencepiece_processor() {
  static const auto make = loaded_plug_in();
  return std::unique_ptr<SentencePieceProcessor>(make());
}

}  // namespace transformers::tokenization
