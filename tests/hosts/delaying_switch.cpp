// An Ethernet switch in user space that holds every frame back for a while: delay between hosts where the
// kernel has no netem (the usual tool, but a module that many kernels lack).
//
//   delaying_switch <ports> <delay in microseconds>
//
// Makes the tap devices port1 ... portN, prints "ready", and forwards until it is killed. Broadcasts (ARP)
// and frames for unknown addresses go to all other ports; the rest to the port where the address was last
// seen as a source.
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Address = std::array<unsigned char, 6>;
using Frame = std::vector<unsigned char>;

struct Held {
  Clock::time_point due;
  size_t port;
  Frame frame;
};

int open_port(const std::string& name) {
  const int port = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  if (port < 0 || ::ioctl(port, TUNSETIFF, &request) < 0) {
    std::perror(name.c_str());
    std::exit(1);
  }
  return port;
}

class Switch {
 public:
  Switch(size_t num_ports, std::chrono::microseconds delay) : delay_(delay) {
    for (size_t i = 1; i <= num_ports; ++i)
      ports_.push_back({open_port("port" + std::to_string(i)), POLLIN, 0});
  }

  [[noreturn]] void run() {
    for (;;) {
      ::poll(ports_.data(), ports_.size(), milliseconds_to_next());
      for (size_t from = 0; from < ports_.size(); ++from) take_in(from);
      hand_out();
    }
  }

 private:
  int milliseconds_to_next() const {
    if (held_.empty()) return -1;
    const auto left = held_.front().due - Clock::now();
    return static_cast<int>(std::max<int64_t>(0, std::chrono::ceil<std::chrono::milliseconds>(left).count()));
  }

  void take_in(size_t from) {
    for (;;) {
      const ssize_t size = ::read(ports_[from].fd, buffer_.data(), buffer_.size());
      if (size < 14) return;  // none, or no Ethernet header
      forward(from, Frame(buffer_.begin(), buffer_.begin() + size));
    }
  }

  void forward(size_t from, const Frame& frame) {
    Address to{}, source{};
    std::copy_n(frame.begin(), 6, to.begin());
    std::copy_n(frame.begin() + 6, 6, source.begin());
    port_of_[source] = from;
    const auto known = port_of_.find(to);
    for (size_t port = 0; port < ports_.size(); ++port) {
      if (port == from || (known != port_of_.end() && known->second != port)) continue;
      held_.push_back(
          {Clock::now() + delay_, port, frame});  // one delay for all: the queue is in order of time
    }
  }

  void hand_out() {
    for (const auto now = Clock::now(); !held_.empty() && held_.front().due <= now; held_.pop_front()) {
      const Held& next = held_.front();
      // A full or unplugged port loses frames, as a real one does.
      [[maybe_unused]] const ssize_t written =
          ::write(ports_[next.port].fd, next.frame.data(), next.frame.size());
    }
  }

  std::chrono::microseconds delay_;
  std::vector<pollfd> ports_;
  std::map<Address, size_t> port_of_;
  std::deque<Held> held_;
  std::array<unsigned char, 1 << 16> buffer_{};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: delaying_switch <ports> <delay in microseconds>\n");
    return 2;
  }
  Switch the_switch(std::strtoul(argv[1], nullptr, 10), std::chrono::microseconds(std::atol(argv[2])));
  std::puts("ready");
  std::fflush(stdout);
  the_switch.run();
}
