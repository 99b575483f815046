// A shared library of its own, the only one that links SentencePiece; sentencepiece_library.h says why. It is loaded
// with deep binding, so that SentencePiece finds its own symbols first. Memory is the exception: texts are made here
// and freed in the program, so allocations go to whatever the program uses.
#include <dlfcn.h>
#include <sentencepiece_processor.h>

#include <cstdlib>
#include <new>

#include "utils/tokenization/sentencepiece_library.h"

namespace {

/// The allocation function that the program uses: its own definition, or that of the library from which it gets one.
template <typename Function>
Function of_program(const char* symbol) {
  static void* const program = dlopen(nullptr, RTLD_LAZY);
  return reinterpret_cast<Function>(dlsym(program, symbol));
}

}  // namespace

void* operator new(std::size_t size) {
  static const auto allocate = of_program<void* (*)(std::size_t)>("_Znwm");
  void* const memory = allocate != nullptr ? allocate(size) : std::malloc(size);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

void operator delete(void* memory) noexcept {
  static const auto deallocate = of_program<void (*)(void*)>("_ZdlPv");
  deallocate != nullptr ? deallocate(memory) : std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

namespace transformers::tokenization {
namespace {

/// Calls `work`, which returns a status; returns the error as a text.
template <typename Work>
std::string problem_of(const Work& work) {
  try {
    const auto status = work();
    return status.ok() ? std::string() : std::string(status.message());
  } catch (const std::exception& error) {
    return error.what();
  }
}

class Processor : public SentencePieceProcessor {
 public:
  std::string load(std::string_view model) override {
    return problem_of([&] { return processor_.LoadFromSerializedProto(model); });
  }
  int piece_size() const override { return processor_.GetPieceSize(); }
  bool is_control(int id) const override { return processor_.IsControl(id); }
  bool is_byte(int id) const override { return processor_.IsByte(id); }
  int bos_id() const override { return processor_.bos_id(); }
  int eos_id() const override { return processor_.eos_id(); }
  int pad_id() const override { return processor_.pad_id(); }
  int unk_id() const override { return processor_.unk_id(); }
  int piece_to_id(std::string_view piece) const override { return processor_.PieceToId(piece); }
  std::string id_to_piece(int id) const override { return processor_.IdToPiece(id); }
  std::string encode(std::string_view text, std::vector<int>& ids) const override {
    return problem_of([&] { return processor_.Encode(text, &ids); });
  }
  std::string decode(const std::vector<int>& ids, std::string& text) const override {
    return problem_of([&] { return processor_.Decode(ids, &text); });
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace
}  // namespace transformers::tokenization

extern "C" transformers::tokenization::SentencePieceProcessor* transformers_make_sentencepiece_processor() {
  return new transformers::tokenization::Processor();
}
