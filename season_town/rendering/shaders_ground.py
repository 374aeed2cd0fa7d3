# SPDX-License-Identifier: Apache-2.0
"""GLSL sources of the ground and the sky."""

from __future__ import annotations

from season_town.rendering.shaders import COMMON, VERSION
from season_town.textures.textures import LAYER

GROUND_VERTEX = (
    VERSION
    + """
uniform mat4 u_camera;
in vec2 in_corner;
out vec3 v_world;
void main() {
    v_world = vec3(in_corner * 700.0, 0.0);
    gl_Position = u_camera * vec4(v_world, 1.0);
}
"""
)

GROUND_FRAGMENT = (
    VERSION
    + COMMON
    + f"""
const float GRASS = {LAYER["grass"]}, ASPHALT = {LAYER["asphalt"]};
const float PAVING = {LAYER["paving"]}, NOISE = {LAYER["noise"]};
"""
    + """
uniform sampler2D u_splat, u_mirror;
uniform vec3 u_grass;
uniform vec2 u_size;
uniform float u_wet, u_litter, u_drive;
in vec3 v_world;
out vec4 f_colour;

void main() {
    vec2 p = v_world.xy;
    vec4 splat = texture(u_splat, p / u_extent + 0.5);
    vec4 coarse = texture(u_tex, vec3(p * 0.021, NOISE));
    vec4 fine = texture(u_tex, vec3(p * 0.17, NOISE));
    float road = smoothstep(0.35, 0.65, splat.r);
    float paved = smoothstep(0.35, 0.65, splat.g);
    float curb = smoothstep(0.25, 0.40, splat.b) * (1.0 - smoothstep(0.5, 0.65, splat.b));
    float paint = smoothstep(0.55, 0.8, splat.b) * road;

    vec3 grass = linear(texture(u_tex, vec3(p * 0.31, GRASS)).rgb) * u_grass;
    grass *= 0.55 + 0.9 * coarse.r;
    vec3 stone = linear(texture(u_tex, vec3(p * 0.5, PAVING)).rgb) * 0.62;
    vec3 tar = linear(texture(u_tex, vec3(p * 0.27, ASPHALT)).rgb) * (0.75 + 0.6 * coarse.b);
    tar *= 1.0 + 0.18 * splat.a;
    vec3 albedo = mix(mix(grass, stone, paved), tar, road);
    albedo = mix(albedo, vec3(0.42), curb * 0.75);
    albedo = mix(albedo, vec3(0.72), paint * (0.55 + 0.4 * fine.b));

    float leaves = smoothstep(0.57, 0.64, fine.b + 0.25 * (coarse.r - 0.5) - 0.08 * splat.a * road)
        * u_litter * (1.0 - 0.5 * road);
    vec3 leaf = mix(vec3(0.55, 0.24, 0.05), vec3(0.62, 0.45, 0.10), fine.r);
    albedo = mix(albedo, leaf, leaves);

    float ice = 1.0 - smoothstep(0.25, 0.75, splat.a + 0.9 * (fine.g - 0.5)) * 0.85;
    float swept = mix(1.0, smoothstep(0.30, 0.55, fine.r + 0.3 * coarse.g), paved * (1.0 - road));
    float snow = u_snow * mix(swept, ice * (0.72 + 0.28 * coarse.g), road);
    albedo = mix(albedo, vec3(0.84, 0.88, 0.94) * (0.86 + 0.2 * fine.g), snow);

    float wet = u_wet * mix(0.35 * paved, 1.0, road) * (1.0 - snow);
    albedo *= mix(1.0, 0.42, wet);
    vec3 colour = illuminate(albedo, v_world, vec3(0.0, 0.0, 1.0), 0.0);
    if (wet > 0.02) {
        float pool = smoothstep(0.52, 0.62, coarse.r * 0.6 + fine.r * 0.4 + 0.12 * splat.a);
        vec2 ripple = (fine.gb - 0.5) * mix(0.10, 0.012, pool);
        vec3 ray = normalize(v_world - u_eye);
        float gloss = 0.05 + 0.95 * pow(1.0 + min(ray.z, 0.0), 4.0);
        vec3 mirror = texture(u_mirror, gl_FragCoord.xy / u_size + ripple).rgb;
        colour += wet * gloss * mix(0.45, 0.95, pool) * mirror;
    }
    f_colour = vec4(fogged(colour, v_world), 1.0);
}
"""
)

SKY_VERTEX = (
    VERSION
    + """
uniform mat4 u_ray;
in vec2 in_corner;
out vec3 v_ray;
void main() {
    v_ray = (u_ray * vec4(in_corner, 1.0, 1.0)).xyz;
    gl_Position = vec4(in_corner, 1.0, 1.0);
}
"""
)

SKY_FRAGMENT = (
    VERSION
    + COMMON
    + f"const float NOISE = {LAYER['noise']};"
    + """
uniform float u_drive, u_exposed_stars;
in vec3 v_ray;
out vec4 f_colour;
void main() {
    vec3 ray = normalize(v_ray);
    vec3 colour = sky_gradient(ray);
    float up = max(ray.z, 0.015);
    vec2 p = ray.xy / (up + 0.12) * 0.06 + u_drive * 0.173;
    float density = textureLod(u_tex, vec3(p, NOISE), 0.0).r * 0.6
        + textureLod(u_tex, vec3(p * 2.7, NOISE), 0.0).g * 0.4;
    float cloud = smoothstep(0.80 - 0.75 * u_cloud, 1.02 - 0.6 * u_cloud, density + 0.08);
    float glow = max(dot(ray, u_sun_direction), 0.0);
    vec3 bright = u_ambient * 1.05 + u_sun * (0.25 + 0.25 * pow(glow, 8.0));
    bright = mix(bright, bright * 0.6, smoothstep(0.5, 0.9, density));
    colour = mix(colour, bright, cloud * 0.85 * smoothstep(0.0, 0.12, ray.z));
    colour += u_sun * (pow(glow, 900.0) * 6.0 + 0.10 * pow(glow, 12.0)) * (1.0 - cloud);
    float star = textureLod(u_tex, vec3(ray.xy / (up + 0.3) * 2.3, NOISE), 0.0).b;
    colour += u_exposed_stars * smoothstep(0.93, 0.97, star) * (1.0 - cloud) * ray.z * 0.12;
    float azimuth = atan(ray.y, ray.x) / 6.28318;
    float ridge = 0.035 + 0.07 * (textureLod(u_tex, vec3(azimuth * 2.0, 0.31, NOISE), 1.0).r);
    float hill = 1.0 - smoothstep(ridge - 0.003, ridge + 0.003, ray.z);
    vec3 forest = mix(vec3(0.05, 0.08, 0.04), vec3(0.42, 0.46, 0.5), u_snow * 0.7)
        * (u_ambient + 0.5 * u_sun);
    colour = mix(colour, mix(u_horizon, forest, exp(-u_fog * 320.0)), hill);
    f_colour = vec4(colour, 1.0);
}
"""
)
