# Fibers, enumerators, exceptions and blocks called from C, each of which waits in the middle. CRuby switches between fibers,
# raises and catches by unwinding its own WebAssembly stack with Asyncify. Its sleep is a loop that looks at the clock, so
# what waits here is standard input: the script reads two bytes at a time, a number.
$stdout.sync = true

def wait = STDIN.sysread(2).to_i

fib = Fiber.new do
  a, b = 0, 1
  loop do
    wait if a > 5
    Fiber.yield a
    a, b = b, a + b
  end
end
10.times { |i| puts "fib #{i} #{fib.resume}" }

$unwound = 0
def deep(n, &block)
  return block.call(n) if n.zero?
  begin
    deep(n - 1, &block) + 1
  ensure
    $unwound += 1
    wait if (n % 20).zero?
  end
end
puts deep(30) { |n| n + wait }
begin
  deep(45) { |n| raise ArgumentError, "from the deep, #{n + wait}" }
rescue ArgumentError => e
  puts "#{e.message} #{$unwound} #{e.backtrace.size} #{wait}"
end

squares = Enumerator.new { |y| 4.times { |i| y << i * i + wait } }
begin
  loop { puts "square #{squares.next} #{squares.peek}" }
rescue StopIteration
  puts 'never: loop takes it'
end

puts catch(:done) { [3, 1, 2].sort_by { |v| v * wait }.each { |v| throw :done, "thrown #{v} #{wait}" if v == 2 } }

fibers = Array.new(3) { |k| Fiber.new { 2.times { |i| Fiber.yield "#{k}:#{i + wait}" }; :end } }
until fibers.empty?
  fibers.reject! { |f| puts(r = f.resume); r == :end }
end

nested = Fiber.new { inner = Fiber.new { Fiber.yield wait; raise "inner #{wait}" }; puts inner.resume; inner.resume }
begin
  nested.resume
rescue => e
  puts "#{e.message} #{wait}"
end

memo = Hash.new { |h, k| h[k] = k * wait }
puts (1..3).map { |i| memo[i] }.join(',')
GC.start
puts 'a1b2'.gsub(/\d/) { |d| (d.to_i + wait).to_s }
exit 3
