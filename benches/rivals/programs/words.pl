# Memory work for perl: hashes, strings that grow, nested data, regular expressions, sorting.
use strict;
use warnings;

# A generator of our own: rand() need not be the same on every perl.
my $state = 12345;
sub rnd { my ($n) = @_; $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $n; }
sub word { join '', map { chr(97 + rnd(26)) } 1 .. 1 + rnd(10) }

my (%count, %index);
for my $line (1 .. 30_000) {
    my $word = word();
    $count{$word}++;
    push @{ $index{ length $word }{ substr $word, 0, 2 } }, { line => $line, word => $word };
}
my @top = (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 4];

my $text = join ' ', map { $_ . 'x' x rnd(20) } keys %count;
my $replaced = ($text =~ s/([aeiou]+)([^aeiou ])/<$2$1>/g);
my @sorted = sort { length $a <=> length $b || $a cmp $b } split ' ', $text;

my @grown;
for my $i (1 .. 120_000) { $grown[$i % 500] .= chr(33 + $i % 90) x 7; $grown[$i % 500] = '' if rnd(400) == 0; }
print scalar(keys %count), " @top $replaced $sorted[-1] ", length(join '', @grown), "\n";
