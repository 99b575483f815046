#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <transformers/utils/io/safetensors.h>
#include <unistd.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/io/allocation_watch.h"
#include "utils/io/file_builders.h"

namespace transformers {
namespace {

using testing::AllocationWatch;
using testing::entry;
using testing::little_endian;
using testing::safetensors_bytes;
using testing::TemporaryFolder;
using testing::write_file;

constexpr size_t kAllowedBeyondFile = 1 << 20;

/// Opens the file and reads all it holds.
void read_everything(const std::string& path) {
  const SafetensorsFile file(path);
  for (const auto& info : file.tensors()) {
    file.tensor(info.name);
  }
}

struct BadFile {
  const char* what;
  std::string bytes;
  std::string fragment;
};

class RefusedSafetensorsTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(RefusedSafetensorsTest, IsOneErrorThatNamesTheFile) {
  const TemporaryFolder folder;
  const auto path = folder / "bad.safetensors";
  write_file(path, GetParam().bytes);
  const AllocationWatch watch;
  EXPECT_ERROR(read_everything(path), "bad.safetensors: ", GetParam().fragment);
  EXPECT_LE(watch.largest(), GetParam().bytes.size() + kAllowedBeyondFile);
}

constexpr auto name_of = [](const auto& info) { return info.param.what; };

/// A header length followed by an honest file of some size.
std::string with_length(uint64_t length) {
  const auto file = safetensors_bytes("{" + entry("a", "F32", "[1]", "[0,4]") + "}", "1234");
  return little_endian(length) + file.substr(8);
}

std::string only(const std::string& header) { return safetensors_bytes(header); }

INSTANTIATE_TEST_SUITE_P(
    Header, RefusedSafetensorsTest,
    ::testing::Values(
        BadFile{"NoByte", "", "at least 8 bytes, found 0"}, BadFile{"OneByte", "x", "found 1"},
        BadFile{"SevenBytes", "1234567", "found 7"},
        BadFile{"EightBytes", little_endian<uint64_t>(2), "its header would be 2 bytes long and 0 bytes follow"},
        BadFile{"LengthZero", with_length(0), "found an empty text"},
        BadFile{"LengthOne", with_length(1), "not valid JSON"},
        BadFile{"LengthIsWholeRest", with_length(with_length(0).size() - 8), "not valid JSON"},
        BadFile{"LengthIsFileSize", with_length(with_length(0).size()), "its header would be"},
        BadFile{"LengthOneTooLarge", with_length(with_length(0).size() - 7), "its header would be"},
        BadFile{"LengthTwoGiB", with_length(1ULL << 31), "2147483648 bytes long"},
        BadFile{"LengthSignBit", with_length(1ULL << 63), "9223372036854775808 bytes long"},
        BadFile{"LengthAllOnes", with_length(~0ULL), "18446744073709551615 bytes long"},
        BadFile{"LengthWrapsWithEight", with_length(~0ULL - 7), "18446744073709551608 bytes long"},
        BadFile{"LengthOverHundredMillion", with_length(100'000'001), "100000001 bytes long"},
        BadFile{"ByteOrderMark", only("\xEF\xBB\xBF{}"), "byte order mark"},
        BadFile{"NulInside", only(std::string("{\0}", 3)), "NUL at byte 1"},
        BadFile{"NulAfter", only(std::string("{}\0\0", 4)), "NUL at byte 2"},
        BadFile{"Array", only("[]"), "the header must be an object"},
        BadFile{"Text", only("\"x\""), "the header must be an object"},
        BadFile{"Null", only("null"), "the header must be an object"},
        BadFile{"TwoValues", only("{}{}"), "not valid JSON"}, BadFile{"UnterminatedText", only("{\"a"), "not valid"},
        BadFile{"UnterminatedEscape", only("{\"a\\"), "not valid JSON"},
        BadFile{"LoneSurrogate", only(R"({"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"), "surrogate"},
        BadFile{"InvalidUtf8", only("{\"\xff\":{}}"), "not valid JSON"},
        BadFile{"Deep", only(R"({"a":{"x":)" + std::string(100000, '[') + std::string(100000, ']') + "}}"),
                "nested deeper"},
        BadFile{"DeepUnclosed", only(std::string(100000, '[')), "must be an object"},
        BadFile{"TrailingComma", only("{" + entry("a", "U8", "[0]", "[0,0]") + ",}"), "not valid JSON"},
        BadFile{"Comment", only("{}/**/"), "not valid JSON"},
        BadFile{"TensorIsNumber", only(R"({"a":1})"), "tensor a: expected an object"},
        BadFile{"TensorIsNull", only(R"({"a":null})"), "tensor a: expected an object"},
        BadFile{"TensorIsArray", only(R"({"a":["U8",[0],[0,0]]})"), "tensor a: expected an object"},
        BadFile{"MetadataIsText", only(R"({"__metadata__":"pt"})"), "__metadata__: expected an object"},
        BadFile{"MetadataHoldsNumber", only(R"({"__metadata__":{"a":1}})"), "__metadata__: expected texts"},
        BadFile{"MetadataHoldsObject", only(R"({"__metadata__":{"a":{}}})"), "__metadata__: expected texts"},
        BadFile{"MetadataTwice", only(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__: occurs twice"}),
    name_of);

/// One tensor `a` with 16 bytes of data behind it.
std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return safetensors_bytes("{" + entry("a", dtype, shape, offsets) + "}", std::string(16, '\0'));
}

std::string fields(const std::string& text) {
  return safetensors_bytes("{\"a\":{" + text + "}}", std::string(16, '\0'));
}

std::string many_dimensions(int count) {
  std::string shape = "[1";
  for (int i = 1; i < count; ++i) {
    shape += ",1";
  }
  return shape + "]";
}

std::string ten_on_one_region() {
  std::string header = "{";
  for (char name = 'a'; name < 'k'; ++name) {
    header += (name == 'a' ? "" : ",") + entry(std::string(1, name), "F32", "[4]", "[0,16]");
  }
  return safetensors_bytes(header + "}", std::string(16, '\0'));
}

std::string two(std::string_view first_offsets, std::string_view second_offsets, size_t data = 16) {
  return safetensors_bytes(
      "{" + entry("a", "F32", "[2]", first_offsets) + "," + entry("b", "F32", "[2]", second_offsets) + "}",
      std::string(data, '\0'));
}

INSTANTIATE_TEST_SUITE_P(
    Entry, RefusedSafetensorsTest,
    ::testing::Values(
        BadFile{"NoDtype", fields(R"("shape":[4],"data_offsets":[0,16])"), "tensor a: dtype is missing"},
        BadFile{"NoShape", fields(R"("dtype":"F32","data_offsets":[0,16])"), "tensor a: shape is missing"},
        BadFile{"NoOffsets", fields(R"("dtype":"F32","shape":[4])"), "tensor a: data_offsets is missing"},
        BadFile{"NullDtype", fields(R"("dtype":null,"shape":[4],"data_offsets":[0,16])"), "dtype must be a text"},
        BadFile{"DtypeArray", fields(R"("dtype":["F32"],"shape":[4],"data_offsets":[0,16])"), "dtype must be a text"},
        BadFile{"NullShape", fields(R"("dtype":"F32","shape":null,"data_offsets":[0,16])"), "shape must be an array"},
        BadFile{"NullOffsets", fields(R"("dtype":"F32","shape":[4],"data_offsets":null)"),
                "data_offsets must be an array"},
        BadFile{"DtypeTwice", fields(R"("dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16])"),
                "duplicate dtype"},
        BadFile{"ShapeTwice", fields(R"("dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16])"),
                "duplicate shape"},
        BadFile{"OffsetsTwice", fields(R"("dtype":"F32","shape":[4],"data_offsets":[0,16],"data_offsets":[0,16])"),
                "duplicate data_offsets"},
        BadFile{"UnknownDtype", one("F23", "[4]", "[0,16]"), "the dtype F23 is not supported"},
        BadFile{"LowerCaseDtype", one("f32", "[4]", "[0,16]"), "the dtype f32 is not supported"},
        BadFile{"F4", one("F4", "[32]", "[0,16]"), "the dtype F4 is not supported"},
        BadFile{"F6", one("F6_E2M3", "[16]", "[0,12]"), "the dtype F6_E2M3 is not supported"},
        BadFile{"ScalarShape", one("F32", "4", "[0,16]"), "shape must be an array"},
        BadFile{"ObjectShape", one("F32", "{\"0\":4}", "[0,16]"), "shape must be an array"},
        BadFile{"NegativeShape", one("F32", "[-4]", "[0,16]"), "shape must hold whole numbers"},
        BadFile{"NegativeZeroShape", one("F32", "[-0]", "[0,0]"), "shape must hold whole numbers"},
        BadFile{"FloatShape", one("F32", "[4.0]", "[0,16]"), "shape must hold whole numbers"},
        BadFile{"ExponentShape", one("F32", "[4e0]", "[0,16]"), "shape must hold whole numbers"},
        BadFile{"TextShape", one("F32", "[\"4\"]", "[0,16]"), "shape must hold whole numbers"},
        BadFile{"NullInShape", one("F32", "[null]", "[0,16]"), "shape must hold whole numbers"},
        BadFile{"NestedShape", one("F32", "[[4]]", "[0,16]"), "shape must hold whole numbers"},
        BadFile{"ShapeBeyondSixtyFourBits", one("F32", "[18446744073709551616]", "[0,16]"),
                "shape must hold whole numbers"},
        BadFile{"SixtyFiveDimensions", one("F32", many_dimensions(65), "[0,4]"), "shape holds more than 64 numbers"},
        BadFile{"HundredThousandDimensions", one("F32", many_dimensions(100000), "[0,4]"),
                "shape holds more than 64 numbers"},
        BadFile{"ProductOverflows", one("F32", "[4294967296,4294967296]", "[0,16]"), "overflows"},
        BadFile{"ProductWrapsToZero", one("F32", "[9223372036854775807,4]", "[0,0]"), "overflows"},
        BadFile{"ProductWrapsToDeclaredSize", one("F32", "[4611686018427387905,4]", "[0,16]"), "overflows"},
        BadFile{"TwoTimesAlmostAll", one("U8", "[2,18446744073709551614]", "[0,16]"), "overflows"},
        BadFile{"TwoTimesAlmostHalf", one("U8", "[2,9223372036854775807]", "[0,16]"), "overflows"},
        BadFile{"OverflowBehindZero", one("U8", "[4294967296,4294967296,0]", "[0,0]"), "overflows"},
        BadFile{"OverflowAfterZero", one("U8", "[0,4294967296,4294967296]", "[0,0]"), "overflows"},
        BadFile{"NoOffset", one("F32", "[4]", "[]"), "data_offsets must hold two numbers, found 0"},
        BadFile{"OneOffset", one("F32", "[4]", "[0]"), "data_offsets must hold two numbers, found 1"},
        BadFile{"ThreeOffsets", one("F32", "[4]", "[0,16,16]"), "data_offsets must hold two numbers, found 3"},
        BadFile{"NegativeOffset", one("F32", "[4]", "[-1,15]"), "data_offsets must hold whole numbers"},
        BadFile{"FloatOffset", one("F32", "[4]", "[0,16.0]"), "data_offsets must hold whole numbers"},
        BadFile{"BeginAfterEnd", one("F32", "[4]", "[16,0]"), "data_offsets begin at 16 after their end 0"},
        BadFile{"PastTheData", one("F32", "[5]", "[0,20]"), "data_offsets end at 20, past the 16 bytes"},
        BadFile{"FarPastTheData", one("F32", "[4]", "[18446744073709551600,18446744073709551615]"),
                "past the 16 bytes"},
        BadFile{"Overlap", two("[0,8]", "[4,12]", 12), "tensor b: data_offsets begin at 4, expected 8"},
        BadFile{"TenTensorsOnOneRegion", ten_on_one_region(), "data_offsets begin at 0, expected 16"},
        BadFile{"HoleAtStart", two("[4,12]", "[12,20]", 20), "tensor a: data_offsets begin at 4, expected 0"},
        BadFile{"HoleInTheMiddle", two("[0,8]", "[12,20]", 20), "tensor b: data_offsets begin at 12, expected 8"},
        BadFile{"BytesAfterTheLast", two("[0,8]", "[8,16]", 18), "2 bytes follow the last tensor"},
        BadFile{"BytesAfterNoTensor", safetensors_bytes("{}", "x"), "1 bytes follow the last tensor"},
        BadFile{"TwoBytesMissing", two("[0,8]", "[8,16]", 14), "tensor b: data_offsets end at 16, past the 14 bytes"},
        BadFile{"FourElementsOnFourBytes", safetensors_bytes("{" + entry("a", "I32", "[2,2]", "[0,4]") + "}", "1234"),
                "dtype and shape need 16 bytes, data_offsets span 4"},
        BadFile{"EmptyWithRange", one("F32", "[0,4]", "[0,16]"), "need 0 bytes, data_offsets span 16"},
        BadFile{"NameTwice", two("[0,8]", "[8,16]").replace(two("[0,8]", "[8,16]").find("\"b\""), 3, "\"a\""),
                "duplicate tensor name a"},
        BadFile{"NameTwiceByEscape",
                safetensors_bytes("{" + entry("a", "U8", "[0]", "[0,0]") + "," +
                                  entry("\\u0061", "U8", "[0]", "[0,0]") + "}"),
                "duplicate tensor name a"},
        BadFile{"BoolByte",
                safetensors_bytes("{" + entry("a", "BOOL", "[4]", "[0,4]") + "}", std::string("\1\0\2\1", 4)),
                "tensor a: a bool must be 0 or 1, found 2 at byte 2"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    ForeignFormat, RefusedSafetensorsTest,
    ::testing::Values(BadFile{"GitLfsPointer",
                              "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n",
                              "this is a Git LFS pointer"},
                      BadFile{"HtmlPage", "\n<!DOCTYPE html>\n<html><body>404</body></html>", "this is an HTML page"},
                      BadFile{"Zip", testing::zip_bytes({{"archive/data.pkl", "x"}}), "this is a zip archive"},
                      BadFile{"Pickle", std::string("\x80\x02}q\0u.", 7) + std::string(40, 'x'), "this is a pickle"},
                      BadFile{"Gzip", "\x1f\x8b\x08" + std::string(40, 'x'), "this is a gzip file"},
                      BadFile{"Gguf", "GGUF\x03" + std::string(40, 'x'), "this is a GGUF file"}),
    name_of);

TEST(RefusedSafetensorsTest, EveryTruncation) {
  const auto whole = safetensors_bytes(
      "{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "BOOL", "[2]", "[8,10]") + "}", std::string(10, '\1'));
  const TemporaryFolder folder;
  const auto path = folder / "cut.safetensors";
  write_file(path, whole);
  ASSERT_NO_THROW(read_everything(path));
  for (size_t size = 0; size < whole.size(); ++size) {
    write_file(path, whole.substr(0, size));
    EXPECT_ERROR(read_everything(path), "cut.safetensors: ") << "cut to " << size << " bytes";
  }
}

TEST(RefusedSafetensorsTest, NamesInErrorsAreEscapedAndCut) {
  const TemporaryFolder folder;
  const auto path = folder / "bad.safetensors";
  write_file(path, safetensors_bytes("{\"\\u001b[31m" + std::string(1000, 'x') + "\":1}"));
  EXPECT_ERROR(SafetensorsFile{path}, "tensor \\x1b[31mxxx", "xxx...: expected an object");
}

TEST(RefusedSafetensorsTest, WhatIsNoRegularFile) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (folder / "socket").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_ERROR(SafetensorsFile(folder.path().string()), "found a folder");
  EXPECT_ERROR(SafetensorsFile(folder / "pipe"), "found a pipe");
  EXPECT_ERROR(SafetensorsFile(folder / "socket"), "cannot be opened");
  EXPECT_ERROR(SafetensorsFile("/dev/zero"), "found a device");
  EXPECT_ERROR(SafetensorsFile(folder / "none"), "cannot be opened: No such file");
  ::close(descriptor);
}

TEST(RefusedSafetensorsTest, AnUnreadableFile) {
  const TemporaryFolder folder;
  write_file(folder / "secret", safetensors_bytes("{}"));
  ASSERT_EQ(::chmod((folder / "secret").c_str(), 0), 0);
  const auto user = ::geteuid();
  ASSERT_EQ(::seteuid(user == 0 ? 65534 : user), 0);  // the superuser reads every file
  EXPECT_ERROR(SafetensorsFile(folder / "secret"), "Permission denied");
  ASSERT_EQ(::seteuid(user), 0);
}

}  // namespace
}  // namespace transformers
