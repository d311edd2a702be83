// The few functions of CANN whose answers MindSpore's Ascend back end goes by while it compiles: the chip's name, memory that can
// be written, handles that are not null. Nothing is computed. All other functions are made by build.py and return 0.
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace {
constexpr size_t kMemoryBytes = size_t{32} << 30;
constexpr uint32_t kNumDevices = 8;
char g_context;

int Reserve(void **address, size_t size) {  // pages come into being when they are touched
  void *found = mmap(nullptr, size == 0 ? 1 : size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  *address = found;
  return found == MAP_FAILED;
}

int NewHandle(void **handle) {
  *handle = calloc(1, 64);
  return *handle == nullptr;
}
}  // namespace

namespace ge {
class StatusFactory {  // texts of GE's error codes, added by initializers inside MindSpore
 public:
  static StatusFactory *Instance();

 private:
  std::map<uint32_t, std::string> texts_;
};

StatusFactory *StatusFactory::Instance() {
  static StatusFactory factory;
  return &factory;
}
}  // namespace ge

extern "C" {
const char *aclrtGetSocName() { return getenv("STUB_SOC"); }
const char *aclGetRecentErrMsg() { return ""; }
int aclrtGetDeviceCount(uint32_t *count) { return *count = kNumDevices, 0; }
int aclrtGetDevice(int32_t *device) { return *device = 0, 0; }
int aclrtGetRunMode(int *mode) { return *mode = 1, 0; }  // the program runs on the host
int aclrtGetMemInfo(int, size_t *free, size_t *total) { return *free = *total = kMemoryBytes, 0; }
int aclrtGetCurrentContext(void **context) { return *context = &g_context, 0; }
int aclrtCreateContext(void **context, int32_t) { return NewHandle(context); }
int aclrtCreateStream(void **stream) { return NewHandle(stream); }
int aclrtCreateStreamWithConfig(void **stream, uint32_t, uint32_t) { return NewHandle(stream); }
int aclrtCreateEvent(void **event) { return NewHandle(event); }
int aclrtCreateEventWithFlag(void **event, uint32_t) { return NewHandle(event); }
int aclrtCreateEventExWithFlag(void **event, uint32_t) { return NewHandle(event); }
int aclrtQueryEventStatus(void *, int *status) { return *status = 1, 0; }
int aclrtQueryEventWaitStatus(void *, int *status) { return *status = 1, 0; }
int aclrtEventElapsedTime(float *milliseconds, void *, void *) { return *milliseconds = 0, 0; }
int aclrtMalloc(void **address, size_t size, int) { return Reserve(address, size); }
int aclrtMallocAlign32(void **address, size_t size, int) { return Reserve(address, size); }
int aclrtMallocHost(void **address, size_t size) { return Reserve(address, size); }
int aclrtReserveMemAddress(void **address, size_t size, size_t, void *, uint64_t) { return Reserve(address, size); }
int aclrtMallocPhysical(void **handle, size_t, const void *, uint64_t) { return NewHandle(handle); }
int aclrtMemcpy(void *to, size_t, const void *from, size_t size, int) { return memcpy(to, from, size), 0; }
int aclrtMemcpyAsync(void *to, size_t, const void *from, size_t size, int, void *) { return memcpy(to, from, size), 0; }
int aclrtMemset(void *to, size_t, int32_t value, size_t size) { return memset(to, value, size), 0; }
int aclrtMemsetAsync(void *to, size_t, int32_t value, size_t size, void *) { return memset(to, value, size), 0; }
int HcclSetConfig(int, int64_t) { return 0; }  // the order of its sums
void *acltdtCreateChannel(uint32_t, const char *) { return calloc(1, 64); }
void *acltdtCreateChannelWithCapacity(uint32_t, const char *, size_t) { return calloc(1, 64); }
}
