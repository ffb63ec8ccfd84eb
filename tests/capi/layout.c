/* Prints how a header lays everything out: sizes, offsets and types of fields, numbers, initial values. */
#include HEADER
#include <stdio.h>

#define TYPE(value)                                                                                \
  _Generic((value), size_t: "size_t", int32_t: "int32_t", uint32_t: "uint32_t or enum",            \
           const char *: "const char *", char *: "char[]",                                         \
           const pagetie_region *: "const pagetie_region *", default: "other")

#define STRUCT(type)                                                                               \
  printf("%s: %zu bytes, aligned to %zu\n", #type, sizeof(type), _Alignof(type))

#define FIELD(type, field)                                                                         \
  printf("%s.%s: %zu bytes at %zu, %s\n", #type, #field, sizeof(((type *)0)->field),               \
         offsetof(type, field), TYPE(((type *)0)->field))

#define NUMBER(name) printf("%s = %d\n", #name, (int)name)

/* No padding, so every byte is initialised. */
#define INITIAL(type, init)                                                                        \
  do {                                                                                             \
    static const type value = init;                                                                \
    printf("%s:", #init);                                                                          \
    for (size_t i = 0; i < sizeof value; i++) printf(" %02x", ((const unsigned char *)&value)[i]);  \
    printf("\n");                                                                                  \
  } while (0)

int main(void) {
  printf("pagetie_status: %zu bytes\n", sizeof(pagetie_status));
  NUMBER(PAGETIE_OK);
  NUMBER(PAGETIE_NULL);
  NUMBER(PAGETIE_MISALIGNED);
  NUMBER(PAGETIE_OUT_OF_RANGE);
  NUMBER(PAGETIE_OVERLAP);
  NUMBER(PAGETIE_NOT_MAPPED);
  NUMBER(PAGETIE_CHANGED);
  NUMBER(PAGETIE_REFUSED_MEMORY);
  NUMBER(PAGETIE_READ_ONLY);
  NUMBER(PAGETIE_LIMIT);
  NUMBER(PAGETIE_NO_MEMORY);
  NUMBER(PAGETIE_UNSUPPORTED);
  NUMBER(PAGETIE_OS);
  NUMBER(PAGETIE_PANIC);
  NUMBER(PAGETIE_INVALID);
  NUMBER(PAGETIE_EMPTY);
  NUMBER(PAGETIE_ENDED);
  printf("pagetie_access: %zu bytes\n", sizeof(pagetie_access));
  NUMBER(PAGETIE_READ_ONLY_TIE);
  NUMBER(PAGETIE_READ_WRITE_TIE);
  NUMBER(PAGETIE_COPY_ON_WRITE_TIE);
  printf("pagetie_prot: %zu bytes\n", sizeof(pagetie_prot));
  NUMBER(PAGETIE_PROT_NONE);
  NUMBER(PAGETIE_PROT_READ);
  NUMBER(PAGETIE_PROT_READ_WRITE);
  STRUCT(pagetie_error);
  FIELD(pagetie_error, size);
  FIELD(pagetie_error, status);
  FIELD(pagetie_error, os_error);
  FIELD(pagetie_error, value);
  FIELD(pagetie_error, other);
  FIELD(pagetie_error, message);
  FIELD(pagetie_error, value_end);
  FIELD(pagetie_error, other_end);
  FIELD(pagetie_error, index);
  STRUCT(pagetie_region_options);
  FIELD(pagetie_region_options, size);
  FIELD(pagetie_region_options, name);
  FIELD(pagetie_region_options, huge_pages);
  FIELD(pagetie_region_options, hide_from_fork);
  FIELD(pagetie_region_options, huge_page_size);
  FIELD(pagetie_region_options, max_len);
  FIELD(pagetie_region_options, prefault);
  FIELD(pagetie_region_options, allow_discard);
  FIELD(pagetie_region_options, read_only);
  FIELD(pagetie_region_options, reserved);
  STRUCT(pagetie_space_options);
  FIELD(pagetie_space_options, size);
  FIELD(pagetie_space_options, allow_heap);
  FIELD(pagetie_space_options, reserved);
  STRUCT(pagetie_tie_options);
  FIELD(pagetie_tie_options, size);
  FIELD(pagetie_tie_options, covered);
  FIELD(pagetie_tie_options, prefault);
  FIELD(pagetie_tie_options, concurrent);
  FIELD(pagetie_tie_options, reserved);
  STRUCT(pagetie_tie_item);
  FIELD(pagetie_tie_item, region);
  FIELD(pagetie_tie_item, at);
  FIELD(pagetie_tie_item, offset);
  FIELD(pagetie_tie_item, len);
  FIELD(pagetie_tie_item, access);
  FIELD(pagetie_tie_item, reserved);
  STRUCT(pagetie_tie_info);
  FIELD(pagetie_tie_info, at);
  FIELD(pagetie_tie_info, len);
  FIELD(pagetie_tie_info, offset);
  FIELD(pagetie_tie_info, access);
  FIELD(pagetie_tie_info, held);
  STRUCT(pagetie_mapping);
  FIELD(pagetie_mapping, addr);
  FIELD(pagetie_mapping, len);
  FIELD(pagetie_mapping, offset);
  FIELD(pagetie_mapping, inode);
  FIELD(pagetie_mapping, prot);
  FIELD(pagetie_mapping, shared);
  INITIAL(pagetie_error, PAGETIE_ERROR_INIT);
  INITIAL(pagetie_region_options, PAGETIE_REGION_OPTIONS_INIT);
  INITIAL(pagetie_space_options, PAGETIE_SPACE_OPTIONS_INIT);
  INITIAL(pagetie_tie_options, PAGETIE_TIE_OPTIONS_INIT);
  return 0;
}
