// Format: TensorFlow's record files (tsl/lib/io/record_writer.h) of event.proto and summary.proto, whose few fields
// that scalars need are written by hand.
#include <c10/util/Exception.h>
#include <transformers/utils/training/tensorboard.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <concepts>
#include <filesystem>

namespace transformers {
namespace {

enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

// Field numbers of Event, Summary, Summary.Value and SessionLog.
constexpr uint64_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
constexpr uint64_t kValue = 1, kTag = 1, kSimpleValue = 2, kStatus = 1, kStart = 1;

template <std::unsigned_integral Number>
void append_little_endian(std::string& bytes, Number number) {
  for (size_t i = 0; i < sizeof(Number); ++i) {
    bytes += static_cast<char>(number >> (8 * i) & 0xFF);
  }
}

void append_varint(std::string& bytes, uint64_t number) {
  for (; number >= 0x80; number >>= 7) {
    bytes += static_cast<char>(number | 0x80);
  }
  bytes += static_cast<char>(number);
}

void append_key(std::string& bytes, uint64_t field, WireType type) { append_varint(bytes, field << 3 | type); }

void append_number(std::string& bytes, uint64_t field, uint64_t number) {
  append_key(bytes, field, kVarint);
  append_varint(bytes, number);
}

void append_message(std::string& bytes, uint64_t field, const std::string& message) {
  append_key(bytes, field, kLengthDelimited);
  append_varint(bytes, message.size());
  bytes += message;
}

/// An event of now with its step.
std::string event_at(int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  std::string event;
  append_key(event, kWallTime, kFixed64);
  append_little_endian(event, std::bit_cast<uint64_t>(now.count()));
  append_number(event, kStep, static_cast<uint64_t>(step));
  return event;
}

constexpr std::array<uint32_t, 256> crc32c_table() {
  constexpr uint32_t kCastagnoli = 0x82F63B78;
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    table[i] = i;
    for (int bit = 0; bit < 8; ++bit) {
      table[i] = table[i] >> 1 ^ ((table[i] & 1) != 0 ? kCastagnoli : 0);
    }
  }
  return table;
}

/// The record format's masked CRC-32C.
uint32_t masked_crc(const std::string& bytes) {
  static constexpr auto kTable = crc32c_table();
  uint32_t crc = ~uint32_t{0};
  for (const char byte : bytes) {
    crc = crc >> 8 ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  }
  return std::rotr(~crc, 15) + 0xA282EAD8;
}

/// TensorBoard reads every file with ".tfevents." in its name, in the order of their names.
std::string new_file_name() {
  static std::atomic<int> counter{0};
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  return "events.out.tfevents." + std::to_string(seconds) + ".libtransformers." + std::to_string(::getpid()) + "." +
         std::to_string(counter++);
}

}  // namespace

TensorBoardWriter::TensorBoardWriter(const std::string& folder, std::optional<int64_t> purge_step)
    : path_((std::filesystem::path(folder) / new_file_name()).string()) {
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  TORCH_CHECK(!error, folder, ": the folder for TensorBoard cannot be created: ", error.message());
  file_.open(path_, std::ios::binary);
  auto version = event_at(purge_step.value_or(0));
  append_message(version, kFileVersion, "brain.Event:2");
  write_record(version);
  if (purge_step) {
    std::string log;
    append_number(log, kStatus, kStart);
    auto session = event_at(*purge_step);
    append_message(session, kSessionLog, log);
    write_record(session);
  }
}

void TensorBoardWriter::add_scalar(const std::string& tag, double value, int64_t step) {
  std::string scalar, summary;
  append_message(scalar, kTag, tag);
  append_key(scalar, kSimpleValue, kFixed32);
  append_little_endian(scalar, std::bit_cast<uint32_t>(static_cast<float>(value)));
  append_message(summary, kValue, scalar);
  auto event = event_at(step);
  append_message(event, kSummary, summary);
  write_record(event);
}

void TensorBoardWriter::write_record(const std::string& event) {
  std::string length, crc;
  append_little_endian(length, uint64_t{event.size()});
  append_little_endian(crc, masked_crc(length));
  append_little_endian(crc, masked_crc(event));
  TORCH_CHECK(file_ << length << crc.substr(0, 4) << event << crc.substr(4) << std::flush, path_,
              ": the TensorBoard file cannot be written");
}

}  // namespace transformers
